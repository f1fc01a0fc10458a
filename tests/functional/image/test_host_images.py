"""Hosts fetch images over HTTP with tickets: what a ticket opens; broken, silent and cancelled downloads."""

import asyncio
import hashlib
import http.client
import itertools
import os
import resource
import socket
import socketserver
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import httpx
import pytest

from muster.api.http.mounts import Mounts
from muster.api.image.host_images import application
from muster.base.errors import Forbidden, NotFound, Transient
from muster.base.ids import new_uuid
from muster.base.image_download import Download, ImageServer
from muster.domain.messages import Desired
from muster.domain.specs import ImageSpec, Power, ServerSpec
from muster.host.image_download import HttpImageSource, _FileSink
from muster.host.image_tickets import ImageTickets as HeldTickets
from muster.host.images import CachedImage, ImageCache
from muster.services.cluster_secret import ClusterSecret
from muster.services.image_files import ImageFiles, Reader
from muster.services.image_tickets import LIFETIME_S, ImageTickets
from muster.services.images import ImageService
from tests.serving import serving

SECRET = ClusterSecret("s" * 32)
SIZE = 3_000_000


class Files:
    """As much of the image service as hands out files."""

    def __init__(self, directory: Path) -> None:
        self.files = ImageFiles(directory)

    async def open_file(self, image_id: str, *, fetch: bool = True) -> Reader:
        return await self.files.open(image_id)


class Cloud:
    """Images that can be fetched at `url`, with a clock for tickets to turn."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.now = 1_000_000.0
        self.images = Files(directory)
        self.tickets = ImageTickets(SECRET, lambda: self.now)
        self.application = Mounts({"hosts": application(cast(ImageService, self.images), self.tickets)})
        self.url = ""
        self.asked = 0

    def add(self, content: bytes) -> ImageSpec:
        image_id = new_uuid()
        self.images.files.path(image_id).write_bytes(content)
        digest = hashlib.sha512(content).hexdigest()
        return ImageSpec(id=image_id, disk_format="raw", size_bytes=len(content), sha512=digest)

    def held(self, *images: ImageSpec) -> HeldTickets:
        """What a host that was told of these images has."""
        held = HeldTickets()
        held.learn({image.id: self.tickets.issue(image.id) for image in images})

        def ask() -> None:
            self.asked += 1

        held.ask_by(ask)
        return held

    def source(self, held: HeldTickets, url: str | None = None, *, silence_s: float = 60.0) -> HttpImageSource:
        return HttpImageSource(url or self.url, held, silence_s=silence_s)


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    made = Cloud(tmp_path / "images")
    async with serving(made.application) as url:
        made.url = url
        yield made


@pytest.fixture
def content() -> bytes:
    return os.urandom(SIZE)


@asynccontextmanager
async def cutting(url: str, n_bytes: Callable[[int], int | None]) -> AsyncIterator[str]:
    """A way to `url` that cuts connection i after `n_bytes(i)` from there; None: it falls silent instead, at once.

    It has threads of its own: they end every connection, also one that arrives while this ends (of asyncio's servers
    such a one outlives `close` on Python 3.11).
    """
    where = urlsplit(url)
    indices = itertools.count()
    ended = threading.Event()

    class Way(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            limit = n_bytes(next(indices))
            if limit is None:
                ended.wait(600)
                return
            with socket.create_connection((where.hostname, where.port), timeout=60) as upstream:
                for line in self.rfile:
                    upstream.sendall(line)
                    if line == b"\r\n":
                        break
                while limit and (data := upstream.recv(min(65_536, limit))):
                    self.wfile.write(data)
                    limit -= len(data)

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Way)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        ended.set()
        await asyncio.to_thread(server.shutdown)
        await asyncio.to_thread(server.server_close)
        await asyncio.to_thread(thread.join, 60)


async def test_a_host_fetches_an_image_with_its_ticket(cloud: Cloud, content: bytes, tmp_path: Path) -> None:
    image = cloud.add(content)
    cache = ImageCache(cloud.source(cloud.held(image)), tmp_path / "host")
    found = (await cache.ensure([image]))[image.id]
    assert isinstance(found, CachedImage)
    assert found.path.read_bytes() == content


async def test_a_ticket_opens_one_image_for_a_while(cloud: Cloud, content: bytes) -> None:
    image, other = cloud.add(content), cloud.add(b"another")
    ticket = cloud.tickets.issue(image.id)
    forged = ImageTickets(ClusterSecret("t" * 32), lambda: cloud.now).issue(image.id)
    expiry, _, code = ticket.partition(".")

    async def status(image_id: str, ticket: str | bytes | None, **headers: str) -> int:
        named = {} if ticket is None else {"X-Image-Ticket": ticket}
        answer = await http.get(f"{cloud.url}/hosts/images/{image_id}", headers={**named, **headers})
        return answer.status_code

    async with httpx.AsyncClient(timeout=300) as http:
        assert await status(image.id, ticket) == 200
        assert await status(image.id, ticket, Range="bytes=5-") == 206
        assert await status(image.id, ticket, Range=f"bytes={SIZE}-") == 416
        prolonged, huge = f"{int(expiry) + 300}.{code}", "9" * 40 + "." + code
        for wrong in (None, "", "x", forged, code, prolonged, f"{expiry}.", huge, b"\xe9.\xe9"):
            assert await status(image.id, wrong) == 403, wrong
        assert await status(other.id, ticket) == 403
        gone = new_uuid()
        assert await status(gone, cloud.tickets.issue(gone)) == 404
        assert await status("..%2f..%2fetc%2fpasswd", cloud.tickets.issue("../../etc/passwd")) == 404
        cloud.now += LIFETIME_S - 1
        assert await status(image.id, ticket) == 200
        cloud.now += 301
        assert await status(image.id, ticket) == 403


async def test_a_download_goes_on_where_it_broke(cloud: Cloud, content: bytes, tmp_path: Path) -> None:
    image = cloud.add(content)
    cuts = [700_000, 700_000, 50, 900_000]
    seen: list[int] = []

    def limit(index: int) -> int:
        seen.append(index)
        return cuts[index] if index < len(cuts) else 10 * SIZE

    async with cutting(cloud.url, limit) as url:
        await cloud.source(cloud.held(image), url).fetch(image, tmp_path / "image")
    assert (tmp_path / "image").read_bytes() == content
    assert len(seen) == len(cuts) + 1


async def test_what_brings_nothing_is_given_up_for_now(cloud: Cloud, content: bytes, tmp_path: Path) -> None:
    image = cloud.add(content)
    for limit in (0, None):
        async with cutting(cloud.url, lambda _, limit=limit: limit) as url:  # type: ignore[misc]
            with pytest.raises(Transient):
                await cloud.source(cloud.held(image), url, silence_s=1.0).fetch(image, tmp_path / "image")
    with pytest.raises(Transient):
        await cloud.source(cloud.held(image), "http://127.0.0.1:1").fetch(image, tmp_path / "image")


async def test_an_expired_or_missing_ticket_is_asked_for(cloud: Cloud, content: bytes, tmp_path: Path) -> None:
    image = cloud.add(content)
    held = cloud.held()
    source = cloud.source(held)
    with pytest.raises(Transient):
        await source.fetch(image, tmp_path / "image")
    assert cloud.asked == 1
    held.learn({image.id: cloud.tickets.issue(image.id)})
    cloud.now += LIFETIME_S + 301
    with pytest.raises(Transient):
        await source.fetch(image, tmp_path / "image")
    assert cloud.asked == 2
    held.learn({image.id: cloud.tickets.issue(image.id)})
    await source.fetch(image, tmp_path / "image")
    assert (tmp_path / "image").read_bytes() == content


async def test_an_image_that_is_not_there(cloud: Cloud, tmp_path: Path) -> None:
    image = ImageSpec(id=new_uuid(), disk_format="raw", size_bytes=1, sha512="0" * 128)
    with pytest.raises(NotFound):
        await cloud.source(cloud.held(image)).fetch(image, tmp_path / "image")


async def test_a_cancelled_download_ends_with_its_thread(cloud: Cloud, content: bytes, tmp_path: Path) -> None:
    image = cloud.add(content)
    async with cutting(cloud.url, lambda _: None) as url:
        source = HttpImageSource(url, cloud.held(image), silence_s=600.0)
        fetching = asyncio.create_task(source.fetch(image, tmp_path / "image"))
        await asyncio.sleep(0.5)  # until it waits for an answer
        began = time.monotonic()
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        assert time.monotonic() - began < 300


async def test_a_download_that_is_stopped_while_it_connects_ends(
    cloud: Cloud, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asked all the same, and waited for a silent server for as long as it may be silent."""
    image = cloud.add(content)
    connect = http.client.HTTPConnection.connect
    async with cutting(cloud.url, lambda _: None) as url:
        download = Download(ImageServer(url, silence_s=600.0), image.id, image.size_bytes, dict)

        def connect_and_stop(connection: http.client.HTTPConnection) -> None:
            connect(connection)
            download.stop()

        monkeypatch.setattr(http.client.HTTPConnection, "connect", connect_and_stop)
        with (tmp_path / "image").open("wb") as file:
            await asyncio.wait_for(asyncio.to_thread(download.run, _FileSink(file)), 300)
        assert (tmp_path / "image").stat().st_size == 0


async def test_downloads_that_wait_take_nobodys_thread(cloud: Cloud, content: bytes, tmp_path: Path) -> None:
    """asyncio's own threads are five more than the processors at the most: guests' steps need them."""
    images = [cloud.add(content) for _ in range(40)]
    async with cutting(cloud.url, lambda _: None) as url:
        source = HttpImageSource(url, cloud.held(*images), silence_s=600.0)
        fetching = [asyncio.create_task(source.fetch(image, tmp_path / image.id)) for image in images]
        await asyncio.sleep(0.5)  # until they wait for an answer, or for their turn
        async with asyncio.timeout(60):
            await asyncio.to_thread(time.monotonic)
        for task in fetching:
            task.cancel()
        assert {type(end) for end in await asyncio.gather(*fetching, return_exceptions=True)} == {
            asyncio.CancelledError
        }


async def test_memory_does_not_grow_with_the_image(cloud: Cloud, tmp_path: Path) -> None:
    size = 200_000_000
    image_id = new_uuid()
    with cloud.images.files.path(image_id).open("wb") as file:
        file.truncate(size)
    image = ImageSpec(id=image_id, disk_format="raw", size_bytes=size, sha512="0" * 128)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await cloud.source(cloud.held(image)).fetch(image, tmp_path / "image")
    assert (tmp_path / "image").stat().st_size == size
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_messages_carry_tickets_for_what_their_servers_need() -> None:
    tickets = ImageTickets(SECRET, lambda: 1_000_000.0)
    image = ImageSpec(id=new_uuid(), disk_format="raw", size_bytes=1, sha512="0" * 128)

    def server(power: Power, its_image: ImageSpec | None) -> ServerSpec:
        return ServerSpec(
            id=new_uuid(),
            generation=1,
            project_id="p",
            user_id="u",
            name="vm",
            hostname="vm",
            power=power,
            image=its_image,
        )

    message = Desired(host_id="h", from_seq=0, to_seq=1, servers=(server(Power.RUNNING, image),) * 3)
    [(image_id, ticket)] = tickets.attach(message).tickets.items()
    assert image_id == image.id
    tickets.check(image.id, ticket)
    for needless in (server(Power.ABSENT, image), server(Power.RUNNING, None)):
        assert tickets.attach(Desired(host_id="h", from_seq=0, to_seq=1, servers=(needless,))).tickets == {}


@pytest.mark.parametrize(
    ("made_by", "checked_by"), [("old", "both"), ("both", "old"), ("both", "new"), ("new", "both")]
)
def test_tickets_are_good_while_the_secret_is_replaced(made_by: str, checked_by: str) -> None:
    secrets = {"old": ClusterSecret("o" * 32), "new": ClusterSecret("n" * 32)}
    secrets["both"] = ClusterSecret("n" * 32, ["o" * 32])
    made, checking = (ImageTickets(secrets[one], lambda: 1_000_000.0) for one in (made_by, checked_by))
    checking.check("an image", made.issue("an image"))
    forged = ImageTickets(SECRET, lambda: 1_000_000.0).issue("an image")
    for wrong in (made.issue("another"), made.issue("an image").split(".")[0], forged):
        with pytest.raises(Forbidden):
            checking.check("an image", wrong)
