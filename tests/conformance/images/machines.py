"""Control machines, each with an image folder of its own and a socket, over one database; users and hosts of them."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from muster.api.http.mounts import Mounts
from muster.api.image.application import application, assemble
from muster.api.image.host_images import application as host_images
from muster.base.clock import system_clock
from muster.base.image_download import HOLDER, TICKET
from muster.domain.context import Context
from muster.domain.images import ImageSettings
from muster.services.cluster_secret import ClusterSecret
from muster.services.image_copies import ImageCopies
from muster.services.image_download import HolderDownloads
from muster.services.image_files import ImageFiles
from muster.services.image_holders import ImageHolder
from muster.services.image_place import Place
from muster.services.image_tickets import ImageTickets
from muster.services.readiness import Readiness
from muster.store import image_holders as store
from muster.store.engine import Database
from tests.functional.image.conftest import Client, FakeAuthenticator
from tests.serving import serving

MEMBER = Context(user_id="u", project_id="p1", roles=frozenset({"member"}))
SECRET = ClusterSecret("s" * 40)
TICKETS = ImageTickets(SECRET, system_clock)
COPIES = 2

#: Where the application at a URL is reached while the block runs.
Way = Callable[[str], AbstractAsyncContextManager[str]]


class Order(Random):
    """Leaves holders in the order that a test says; others come behind."""

    first: tuple[str, ...] = ()

    def sample(self, population, k, *, counts=None):  # type: ignore[no-untyped-def]
        wanted = [one for one in self.first if one in population]
        return (wanted + [one for one in population if one not in wanted])[:k]


class _Asked:
    """An application that comes later, and how often paths were asked for."""

    def __init__(self) -> None:
        self.application: ASGIApp | None = None
        self.paths: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.paths.append(scope["path"])
            assert self.application is not None
            await self.application(scope, receive, send)


class Machine:
    """A control machine: one worker of it. Without a `name` it shares its folder, and says nothing of files."""

    def __init__(self, database: Database, folder: Path, url: str, name: str, place: Place) -> None:
        self.database, self.folder, self.url, self.name = database, folder, url, name
        self.order = Order()
        self.files = ImageFiles(folder)
        downloads = HolderDownloads(TICKETS, name, silence_s=60.0)
        self.holder = ImageHolder(place, database, self.files, downloads, self.order)
        self.services = assemble(database, system_clock, self.files, ImageSettings(), self.holder if name else None)
        self.copies = ImageCopies(database, self.files, self.holder, COPIES, self.order)
        self.application = Mounts(
            {
                "image": application(self.services, FakeAuthenticator()),
                "hosts": host_images(self.services.images, TICKETS, place if name else None),
            },
            Readiness({"images": self.holder.watch.check}),
        )
        self.asked: list[str] = []

    def kept(self) -> list[str]:
        """The names of images' files in the folder."""
        names = (path.name for path in self.folder.iterdir()) if self.folder.exists() else ()
        return sorted(name for name in names if name != "copying.lock")

    def fetches(self, image_id: str) -> int:
        """How often it was asked for an image's file by hosts and machines."""
        return self.asked.count(f"/hosts/images/{image_id}")

    async def by_host(self, image_id: str, *, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """As a host asks, with its ticket."""
        async with httpx.AsyncClient(base_url=self.url, timeout=300) as http:
            wanted = {TICKET: TICKETS.issue(image_id), **(headers or {})}
            return await http.get(f"/hosts/images/{image_id}", headers=wanted)

    async def by_machine(self, image_id: str) -> httpx.Response:
        """As another control machine asks."""
        return await self.by_host(image_id, headers={HOLDER: "http://elsewhere"})

    async def by_user(self, image_id: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        async with self.user() as user:
            return await user.call("GET", f"/v2/images/{image_id}/file", headers=headers or {})

    @asynccontextmanager
    async def user(self) -> AsyncIterator[Client]:
        async with httpx.AsyncClient(base_url=self.url + "/image", timeout=300) as http:
            yield Client(http, "member@p1")

    async def uploaded(self, content: bytes, **fields: object) -> str:
        """An image of this content, uploaded here: its id."""
        async with self.user() as user:
            image = await user.image(**fields)
            await user.upload(image, content)
        return image["id"]


class Machines:
    """Machines that are made when they are asked for. `database` is for all of them."""

    def __init__(self, database: Database, folder: Path, stack: AsyncExitStack) -> None:
        self.database = database
        self._folder = folder
        self._stack = stack

    async def start(
        self,
        folder: str,
        *,
        name: str | None = None,
        behind: Way | None = None,
        host: str = "control",
        settings: str | None = None,
        mark: str = "",
    ) -> Machine:
        """One with this folder of images. `name` in place of its URL, empty for one that has none; `behind` a way to
        it; `settings` its own folder, by which it is known beside its `host`: by default, that of its images; and its
        `mark`."""
        asked = _Asked()
        url = await self._stack.enter_async_context(serving(asked))
        if behind is not None:
            name = await self._stack.enter_async_context(behind(url))
        name = url if name is None else name
        place = Place(url=name, machine=host, folder=folder if settings is None else settings, mark=mark)
        made = Machine(self.database, self._folder / folder, url, name, place)
        made.asked, asked.application = asked.paths, made.application
        self._stack.push_async_callback(made.holder.close)
        return made

    async def holders(self, image_id: str) -> set[str]:
        """Who has an image, as the database says."""
        async with self.database.read() as connection:
            return (await store.read(connection, [image_id]))[image_id]
