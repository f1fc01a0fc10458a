"""The libvirt adapter over a library that is replaced: what it makes of damage, and of connections that break."""

import asyncio
import errno
import hashlib
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import libvirt
import msgspec
import pytest

from host.hypervisor.fake_libvirt import FakeDomain, FakeLibvirt, error
from muster.base.clock import Clock, system_clock
from muster.base.errors import Conflict, MusterError, NotFound, Transient
from muster.domain.reports import GuestState
from muster.domain.specs import ImageSpec, Power, ServerSpec
from muster.host.hypervisor.libvirt import connection, console, guests
from muster.host.hypervisor.libvirt.connection import Connection, LibvirtFailed, translated
from muster.host.hypervisor.libvirt.definition import define
from muster.host.hypervisor.libvirt.domainxml.node import render
from muster.host.hypervisor.libvirt.folder import Folder, Record
from muster.host.hypervisor.libvirt.hypervisor import LibvirtHypervisor
from muster.host.hypervisor.libvirt.kept import Shelf
from muster.host.hypervisor.libvirt.settings import LibvirtSettings
from muster.host.images import ImageCache
from muster.host.plan import Action, View, decide
from muster.host.ports import Guest, GuestEvent, Outcome, Stranger

ID = "6f1ed002-ab5d-4a0c-8d6f-1d1f7a9a7f10"
OTHER = "7f1ed002-ab5d-4a0c-8d6f-1d1f7a9a7f11"
RECORD = Record(boot_nonce=1, disk_nonce=2, base="/b", base_format="raw", image_sha512="00")
SERVER = ServerSpec(
    id=ID,
    generation=5,
    project_id="p",
    user_id="u",
    name="n",
    hostname="h",
    power=Power.RUNNING,
    boot_nonce=1,
    disk_nonce=2,
)


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> FakeLibvirt:
    fake = FakeLibvirt()
    monkeypatch.setattr(connection, "start_event_loop", lambda: None)
    monkeypatch.setattr(libvirt, "open", lambda uri: fake)
    return fake


class Source:
    """Has an image's content, or not; `slow` are the images that come once it is set."""

    content: bytes | None = None

    def __init__(self) -> None:
        self.slow: set[str] = set()
        self.comes = asyncio.Event()
        self.fetched: list[str] = []

    async def fetch(self, image: ImageSpec, target: Path) -> None:
        self.fetched.append(image.id)
        if image.id in self.slow:
            await self.comes.wait()
        if self.content is None:
            raise Transient("no images here now")
        target.write_bytes(self.content)


@asynccontextmanager
async def opened(
    tmp_path: Path, source: Source | None = None, clock: Clock = system_clock, **changes: object
) -> AsyncIterator[LibvirtHypervisor]:
    settings = LibvirtSettings(instances_dir=tmp_path / "instances", **changes)  # type: ignore[arg-type]
    hypervisor = LibvirtHypervisor(settings, ImageCache(source or Source(), tmp_path / "images"), clock=clock)
    try:
        yield hypervisor
    finally:
        await hypervisor.close()


def folder_with(tmp_path: Path, record: bytes) -> Folder:
    folder = Folder(tmp_path / "instances", ID)
    folder.make()
    (folder.path / "record.json").write_bytes(record)
    folder.disk.write_bytes(b"somebody's data")
    return folder


def wanted(guest: Guest) -> Action:
    return decide(View(server_id=ID, spec=SERVER, guest=guest))


async def test_a_guest_with_a_damaged_record_keeps_its_disk(
    tmp_path: Path, daemon: FakeLibvirt, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was once taken for one without a disk, and made anew from its image: a downgrade would have cost all disks."""
    folder = folder_with(tmp_path, b'{"boot_nonce": "from another version"}')
    async with opened(tmp_path) as hypervisor:
        for _ in range(3):
            guest = (await hypervisor.observe())[ID]
            assert (guest.state, wanted(guest)) == (GuestState.STOPPED, Action.START)
        (outcome,) = await hypervisor.prepare([SERVER])
        assert outcome.fault is not None
        assert "damaged" in outcome.fault.details
        assert folder.disk.read_bytes() == b"somebody's data"
        assert capsys.readouterr().out.count("a guest's record cannot be read") == 1
        await hypervisor.remove([ID])
        assert not folder.path.exists()


@pytest.mark.parametrize("number", [errno.EIO, errno.EUCLEAN])
async def test_a_record_that_the_disk_does_not_give_back_blinds_nobody_to_other_guests(
    tmp_path: Path, daemon: FakeLibvirt, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """One bad sector once kept a host from seeing any of its guests, so that nothing was done there any more."""
    bad, good = folder_with(tmp_path, b"{}"), Folder(tmp_path / "instances", OTHER)
    good.make()
    good.write(RECORD)
    read_bytes = Path.read_bytes

    def read(path: Path) -> bytes:
        if path.parent == bad.path:
            raise OSError(number, "no")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    async with opened(tmp_path) as hypervisor:
        guests = await hypervisor.observe()
        assert guests.keys() == {ID, OTHER}
        assert guests[OTHER].disk_nonce == RECORD.disk_nonce
        assert guests[ID].disk_nonce > SERVER.disk_nonce, "its disk is never replaced"


async def test_a_host_that_is_short_of_something_sees_no_damage(
    tmp_path: Path, daemon: FakeLibvirt, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_with(tmp_path, msgspec.json.encode(RECORD))

    def read(path: Path) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Path, "read_bytes", read)
    async with opened(tmp_path) as hypervisor:
        with pytest.raises(Transient):
            await hypervisor.observe()


async def test_a_guest_that_runs_with_a_damaged_record_is_known_by_its_mark(
    tmp_path: Path, daemon: FakeLibvirt
) -> None:
    folder = folder_with(tmp_path, b"{")
    async with opened(tmp_path) as hypervisor:
        xml = render(define(SERVER, RECORD, folder, hypervisor._settings))
        daemon.domains[ID] = FakeDomain(ID, xml)
        guest = (await hypervisor.observe())[ID]
        assert (guest.state, guest.boot_nonce, guest.disk_nonce) == (GuestState.RUNNING, 1, 2)
        assert wanted(guest) is Action.PLUMB


async def test_a_guest_that_was_just_ending_is_started(tmp_path: Path, daemon: FakeLibvirt) -> None:
    """libvirt refuses the second guest, and when it is asked, the first has ended: that once failed the server."""
    folder_with(tmp_path, msgspec.json.encode(RECORD))
    refusals = [error(libvirt.VIR_ERR_OPERATION_INVALID, text="domain is already active")]

    def on_create(xml: str) -> None:
        if refusals:
            raise refusals.pop()

    daemon.on_create = on_create
    async with opened(tmp_path) as hypervisor:
        (outcome,) = await hypervisor.start([SERVER])
        assert outcome.fault is None
        assert len(daemon.created) == 1


async def test_a_clock_that_is_wrong_removes_nothing_that_is_kept(tmp_path: Path, daemon: FakeLibvirt) -> None:
    """What is kept may be all that is left of a server that a restored database does not know."""
    folder_with(tmp_path, msgspec.json.encode(RECORD))
    shelf = Shelf(tmp_path / "instances")

    async def counted(at_least_s: float) -> None:
        async with asyncio.timeout(300):
            while shelf.all()[ID].kept_s < at_least_s:
                await asyncio.sleep(0.001)

    async with opened(tmp_path, clock=lambda: 1_000.0, kept_check_s=0.01, keep_unknown_s=86_400.0) as hypervisor:
        await hypervisor.keep([Stranger(ID)])
        await counted(0.05)
    async with opened(tmp_path, kept_check_s=0.01, keep_unknown_s=86_400.0):  # an agent of many years later
        await counted(0.1)
    async with opened(tmp_path, kept_check_s=0.01, keep_unknown_s=0.2), asyncio.timeout(300):
        while list(shelf.path.iterdir()):
            await asyncio.sleep(0.001)


async def test_an_image_that_takes_long_holds_up_only_the_servers_that_need_it(
    tmp_path: Path, daemon: FakeLibvirt
) -> None:
    """Whatever else was to be built or plumbed, rules that were withdrawn among it, once waited for the download."""
    source = Source()
    source.content, source.slow = bytes(1_024), {"slow"}
    digest = hashlib.sha512(source.content).hexdigest()
    image = ImageSpec(id="quick", disk_format="raw", size_bytes=1_024, sha512=digest)
    quick = msgspec.structs.replace(SERVER, image=image, disk_gib=1)
    slow = msgspec.structs.replace(quick, id=OTHER, image=msgspec.structs.replace(image, id="slow", sha512="ab" * 64))
    async with opened(tmp_path, source, image_patience_s=0.05) as hypervisor:
        await hypervisor._images.ensure([image])  # a busy machine may be slow with it too
        put_off, done = await hypervisor.prepare([slow, quick])
        assert (done.fault, done.retry_after_s) == (None, None)
        assert (put_off.fault, put_off.retry_after_s is None) == (None, False)
        source.comes.set()
        async with asyncio.timeout(300):
            assert await anext(hypervisor.events()) == GuestEvent(OTHER, GuestState.PENDING), "it need not be polled"
        (failed,) = await hypervisor.prepare([slow])
        assert failed.fault is not None, "it is not the image that it was to be"
        assert sorted(source.fetched) == ["quick", "slow"], "the download went on meanwhile"


async def test_an_image_is_fetched_before_it_takes_the_place_of_another(tmp_path: Path, daemon: FakeLibvirt) -> None:
    source = Source()
    content = bytes(1_024)
    image = ImageSpec(
        id="image", disk_format="raw", size_bytes=len(content), sha512=hashlib.sha512(content).hexdigest()
    )
    server = msgspec.structs.replace(SERVER, image=image, disk_gib=1)
    async with opened(tmp_path, source) as hypervisor:
        put_off, imageless = await hypervisor.fetch([server, msgspec.structs.replace(SERVER, id=OTHER)])
        assert (put_off.fault, put_off.retry_after_s is None) == (None, False)
        assert imageless.fault is not None
        source.content = content
        assert await hypervisor.fetch([server]) == [Outcome(ID)]
        assert source.fetched == ["image", "image"]
        (done,) = await hypervisor.prepare([server])
        assert (done, source.fetched) == (Outcome(ID), ["image", "image"])


async def test_a_base_image_that_somebody_removed_is_fetched_again_before_a_start(
    tmp_path: Path, daemon: FakeLibvirt
) -> None:
    """As Nova does it. Once all guests of the image failed at their next start, and stayed failed."""
    source = Source()
    source.content = bytes(1_024)
    digest = hashlib.sha512(source.content).hexdigest()
    image = ImageSpec(id="image", disk_format="raw", size_bytes=len(source.content), sha512=digest)
    server = msgspec.structs.replace(SERVER, image=image, disk_gib=1)
    async with opened(tmp_path, source) as hypervisor:
        (outcome,) = await hypervisor.prepare([server])
        assert (outcome.fault, outcome.retry_after_s) == (None, None)
        disk = hypervisor._guests.folder(ID).disk.read_bytes()
        (base,) = (tmp_path / "images").iterdir()
        base.unlink()
        source.content = None
        (outcome,) = await hypervisor.prepare([server])
        assert outcome.retry_after_s is not None, "it is put off, and fails nobody"
        source.content = bytes(1_024)
        (outcome,) = await hypervisor.prepare([server])
        assert (outcome.fault, outcome.retry_after_s) == (None, None)
        assert base.read_bytes() == source.content
        # Another name for the same content: an image was unpacked when it came again, or was not.
        base.rename(base.with_name(f"{digest}.unpacked.raw"))
        (outcome,) = await hypervisor.prepare([server])
        assert (outcome.fault, outcome.retry_after_s) == (None, None)
        assert base.read_bytes() == source.content
        assert hypervisor._guests.folder(ID).disk.read_bytes() == disk


async def test_a_guest_that_is_being_asked_to_shut_down_is_ended_at_once_by_who_wants_it_gone(
    tmp_path: Path, daemon: FakeLibvirt
) -> None:
    """A delete, and all deletes that came with it or after it, once waited a minute for a guest without ACPI."""
    domain = daemon.domains[ID] = FakeDomain(ID)
    async with opened(tmp_path, shutdown_timeout_s=600.0) as hypervisor:

        def destroyed() -> None:
            del daemon.domains[ID]
            hypervisor._connection._tell(hypervisor._happened, ID, domain.name(), libvirt.VIR_DOMAIN_EVENT_STOPPED)

        domain.on_destroy = destroyed
        stopping = asyncio.create_task(hypervisor.stop([ID], hard=False))
        while not domain.presses:
            await asyncio.sleep(0.001)
        async with asyncio.timeout(300):
            (ended,) = await hypervisor.stop([ID], hard=True)
            (stopped,) = await stopping
        assert (ended.fault, stopped.fault) == (None, None)
        assert ID not in daemon.domains


@pytest.mark.parametrize("code", [None, libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID])
async def test_the_end_of_a_guest_is_told_where_libvirt_does_not(
    tmp_path: Path, daemon: FakeLibvirt, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    """One that takes its guests over, after a restart, ends some without an event, and may forget them at once."""

    def on_destroy() -> None:
        del daemon.domains[ID]
        if code is not None:
            raise error(code)

    monkeypatch.setattr(guests, "_EVENT_TIMEOUT_S", 0.01)
    daemon.domains[ID] = FakeDomain(ID)
    daemon.domains[ID].on_destroy = on_destroy
    async with opened(tmp_path) as hypervisor, asyncio.timeout(300):
        (outcome,) = await hypervisor.stop([ID], hard=True)
        assert outcome == Outcome(ID)
        assert await anext(hypervisor.events()) == GuestEvent(ID, GuestState.STOPPED)


async def test_a_console_that_cannot_be_cut_lets_no_other_grow(
    tmp_path: Path, daemon: FakeLibvirt, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for server_id in (ID, OTHER):
        Folder(tmp_path / "instances", server_id).make()
    looked_at: list[Path] = []

    def bound(path: Path, keep_bytes: int) -> bool:
        looked_at.append(path)
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(console, "bound", bound)
    async with opened(tmp_path, console_check_s=0.001, qemu_log_dir=tmp_path):
        async with asyncio.timeout(300):
            while len(looked_at) < 12:  # three rounds: the first failure is not the end of it either
                await asyncio.sleep(0.001)
    consoles = {Folder(tmp_path / "instances", server_id).console for server_id in (ID, OTHER)}
    assert set(looked_at) == consoles | {tmp_path / f"muster-{server_id}.log" for server_id in (ID, OTHER)}
    assert capsys.readouterr().out.count("consoles cannot be cut") == 1


@pytest.mark.parametrize(
    ("code", "origin", "kind"),
    [
        (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_RPC, Transient),  # client socket is closed
        (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_RPC, Transient),
        (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_REMOTE, Transient),
        (libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_FROM_RPC, Transient),
        (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU, LibvirtFailed),
        (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_QEMU, LibvirtFailed),
        (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_FROM_QEMU, NotFound),
        (libvirt.VIR_ERR_DOM_EXIST, libvirt.VIR_FROM_QEMU, Conflict),
    ],
)
def test_a_broken_connection_fails_no_server(code: int, origin: int, kind: type[MusterError]) -> None:
    assert type(translated(error(code, origin))) is kind


async def test_who_finds_a_connection_dead_tells_of_the_loss(daemon: FakeLibvirt) -> None:
    """It stops listening to the dead one, so the library's own call may never come."""
    lost = asyncio.Event()
    shared = Connection("test:///x", 1, on_event=lambda *_: None, on_removed=lambda *_: None, on_lost=lost.set)
    await shared.call(lambda one: one.isAlive())
    assert not lost.is_set()
    daemon.alive = False
    await shared.call(lambda one: None)
    async with asyncio.timeout(300):
        await lost.wait()
    await shared.close()


async def test_a_daemon_that_hangs_is_told_of(
    daemon: FakeLibvirt, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All calls wait for it, so without this nothing would be said at all."""
    said = ""

    def hangs(uri: str) -> FakeLibvirt:
        nonlocal said
        until_s = time.monotonic() + 300
        while "does not answer" not in said and time.monotonic() < until_s:
            time.sleep(0.01)
            said += capsys.readouterr().out
        return daemon

    monkeypatch.setattr(connection, "_MUTE_S", 0.01)
    monkeypatch.setattr(libvirt, "open", hangs)
    shared = Connection("test:///x", 1, on_event=lambda *_: None, on_removed=lambda *_: None, on_lost=lambda: None)
    await shared.call(lambda one: None)
    await shared.close()
    assert "does not answer" in said


async def test_a_daemon_that_hangs_keeps_nobody_who_leaves(
    daemon: FakeLibvirt, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opens, goes_on = threading.Event(), threading.Event()

    def hangs(uri: str) -> FakeLibvirt:
        opens.set()
        goes_on.wait(300)
        return daemon

    monkeypatch.setattr(connection, "_LEAVE_S", 0.1)
    monkeypatch.setattr(libvirt, "open", hangs)
    shared = Connection("test:///x", 2, on_event=lambda *_: None, on_removed=lambda *_: None, on_lost=lambda: None)
    calls = [asyncio.create_task(shared.call(lambda one: None)) for _ in range(3)]
    try:
        assert await asyncio.to_thread(opens.wait, 300)
        async with asyncio.timeout(300):
            await shared.close()
        assert "action=libvirt_left" in capsys.readouterr().out
    finally:
        goes_on.set()
    with pytest.raises(Transient, match="was closed"):  # who waited for the one that opened opens none
        await calls[2]
    await asyncio.gather(*calls, return_exceptions=True)


HANGS = """
import asyncio, socket, sys
from muster.host.hypervisor.libvirt import connection

server, accepted = socket.socket(socket.AF_UNIX), []  # takes connections, and never answers

async def work(path):
    server.bind(path)
    server.listen()
    uri = f"qemu+unix:///system?socket={path}"
    shared = connection.Connection(uri, 2, on_event=print, on_removed=print, on_lost=print)
    call = asyncio.create_task(shared.call(lambda one: one.getVersion()))
    accepted.append(await asyncio.to_thread(server.accept))
    connection._LEAVE_S = 0.1
    await shared.close()
    call.cancel()

asyncio.run(work(sys.argv[1]))
print("ends")
"""


async def test_nor_does_it_keep_the_process() -> None:
    """libvirt's own client waits for ever for an answer to its first question."""
    with tempfile.TemporaryDirectory() as short:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", HANGS, f"{short}/socket"), stdout=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(300):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0
    assert said.decode().splitlines()[-1] == "ends"
