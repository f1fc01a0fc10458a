"""A machine asks the URL under which it has images who is there: itself, another, nobody, or none of the cluster."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.testing import capture_logs

from benchmarks.free_ports import free_ports
from muster.api.http.mounts import Mounts
from muster.api.http.responses import Response
from muster.api.image.host_images import application
from muster.base.clock import system_clock
from muster.base.errors import Invalid, NotFound, Transient
from muster.cli.images import folder_mark
from muster.domain.images import Image
from muster.services import image_download
from muster.services.cluster_secret import ClusterSecret
from muster.services.image_download import AT_ONCE, MACHINE, HolderDownloads
from muster.services.image_files import Reader
from muster.services.image_incoming import Incoming
from muster.services.image_place import Place, PlaceWatch
from muster.services.image_tickets import ImageTickets
from muster.services.images import ImageService
from tests.serving import serving

SECRET = ClusterSecret("s" * 32)
HERE = "control-1:/var/lib/muster"


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who answers does so in time, on however slow a machine."""
    monkeypatch.setattr(image_download, "ANSWER_WITHIN_S", 60.0)


class NoImages:
    async def open_file(self, image_id: str, *, fetch: bool = True) -> Reader:
        raise NotFound("No image data could be found")


def a_machine(place: Place | None, secret: ClusterSecret = SECRET) -> ASGIApp:
    tickets = ImageTickets(secret, system_clock)
    return Mounts({"hosts": application(cast("ImageService", NoImages()), tickets, place)})


def a_place(url: str, machine: str = "control-1", mark: str = "boot/1/2") -> Place:
    return Place(url=url, machine=machine, folder="/var/lib/muster", mark=mark)


class Anything:
    """At the end of a URL: what a test puts there."""

    def __init__(self) -> None:
        self.application: ASGIApp = a_machine(None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.application(scope, receive, send)


@asynccontextmanager
async def watched(url: str | None = None) -> AsyncIterator[tuple[PlaceWatch, Anything, str]]:
    """A machine's watch of its URL, what answers there, and the URL."""
    there = Anything()
    async with AsyncExitStack() as stack:
        url = url or await stack.enter_async_context(serving(there))
        downloads = HolderDownloads(ImageTickets(SECRET, system_clock), url, silence_s=60.0)
        stack.callback(downloads.close)
        yield PlaceWatch(a_place(url), downloads), there, url


async def test_a_url_that_leads_here() -> None:
    async with watched() as (watch, there, url):
        there.application = a_machine(a_place(url))
        with capture_logs() as lines:
            await watch.look()
        assert not watch.is_wrong
        assert lines == []
        watch.require()
        await watch.check()


async def test_another_machine_is_found_told_once_and_over_when_the_url_leads_here_again() -> None:
    async with watched() as (watch, there, url):
        there.application = a_machine(a_place(url, "control-2"))
        with capture_logs() as lines:
            await watch.look()
            await watch.look()
        [line] = lines
        assert (line["log_level"], line["leads_to"]) == ("error", "control-2:/var/lib/muster")
        assert line["machine"] == HERE
        with pytest.raises(Transient, match="leads to another machine"):
            watch.require()
        with pytest.raises(Invalid, match="leads to another machine"):
            await watch.check()
        there.application = a_machine(a_place(url))
        await watch.look()
        watch.require()
        await watch.check()


async def test_another_machine_of_the_same_name_is_found_too() -> None:
    """Such as a container of the same settings, whose kernel may even be the same."""
    async with watched() as (watch, there, url):
        there.application = a_machine(a_place(url, mark="boot/1/3"))
        with capture_logs() as lines:
            await watch.look()
        assert watch.is_wrong
        assert [line["leads_to"] for line in lines] == ["another of this name"]


async def test_workers_of_the_version_before_are_no_other_machine() -> None:
    """They tell no mark, and read past it."""
    async with watched() as (watch, there, url):
        there.application = a_machine(a_place(url, mark=""))
        await watch.look()
        assert not watch.is_wrong
        there.application = a_machine(a_place(url, "control-2", mark=""))
        await watch.look()
        assert watch.is_wrong


def test_a_folder_has_a_mark_that_no_other_has_at_the_same_time(tmp_path: Path) -> None:
    one, other, boots = tmp_path / "one", tmp_path / "other", [tmp_path / "boot-1", tmp_path / "boot-2"]
    for folder in (one, other):
        folder.mkdir()
    for boot in boots:
        boot.write_text(f"{boot.name}\n")
    marks = {folder_mark(folder, boot) for folder in (one, other) for boot in (*boots, tmp_path / "none")}
    assert len(marks) == 6
    assert folder_mark(one) == folder_mark(one) != folder_mark(other)
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert folder_mark(one).startswith(f"{boot_id}/")


async def test_what_else_answers_is_not_this_machine_either() -> None:
    async def other_service(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(["something else"]).send(send)

    async with watched() as (watch, there, url):
        for application_ in (a_machine(None), a_machine(a_place(url), ClusterSecret("t" * 32)), other_service):
            there.application = application_
            await watch.look()
            assert watch.is_wrong
            there.application = a_machine(a_place(url))
            await watch.look()
            assert not watch.is_wrong


async def test_where_nobody_answers_all_stays_as_it_was() -> None:
    async def earlier_version(scope: Scope, receive: Receive, send: Send) -> None:
        await Response({"message": "Not Found"}, status=404).send(send)

    async with watched(f"http://127.0.0.1:{free_ports(1)}") as (watch, _, _):
        await watch.look()
        assert not watch.is_wrong
    async with watched() as (watch, there, url):
        there.application = earlier_version
        await watch.look()
        assert not watch.is_wrong
        there.application = a_machine(a_place(url, "control-2"))
        await watch.look()
        there.application = earlier_version
        await watch.look()
        assert watch.is_wrong


class Nowhere:
    """Takes what arrives."""

    def tell(self) -> int:
        return 0

    def put(self, data: bytes) -> None: ...

    def restart(self) -> None: ...


async def test_who_is_there_is_asked_also_while_images_are_on_their_way() -> None:
    """They may take minutes: here until somebody asks who is there, or they are given up."""
    asked = asyncio.Event()

    async with watched() as (watch, there, url):
        machine = a_machine(a_place(url, "control-2"))

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"].endswith(f"/{MACHINE}"):
                asked.set()
            else:
                await asked.wait()
            await machine(scope, receive, send)

        there.application = slow
        downloads, image = watch._downloads, Image(id="3f1c0f3e-0000-4000-8000-000000000001", owner=None, size=1)
        fetches = [
            asyncio.create_task(downloads.fetch(url, image, cast("Incoming", Nowhere()))) for _ in range(AT_ONCE)
        ]
        await asyncio.sleep(0)
        await watch.look()
        assert watch.is_wrong
        for outcome in await asyncio.gather(*fetches, return_exceptions=True):
            assert isinstance(outcome, NotFound), "given up before anybody asked who is there"


async def test_who_has_no_ticket_is_not_told() -> None:
    async with watched() as (_, there, url):
        there.application = a_machine(a_place(url))
        downloads = HolderDownloads(ImageTickets(ClusterSecret("t" * 32), system_clock), url)
        try:
            assert HERE not in (await downloads.identity_at(url)).machine
        finally:
            downloads.close()
