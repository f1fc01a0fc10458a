"""The parts of the libvirt adapter that need no libvirt daemon."""

import asyncio
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import MagicMock, call

import msgspec
import pytest

from muster.base.errors import Invalid, MusterError, NotFound, Transient
from muster.domain.reports import GuestState
from muster.domain.specs import ImageSpec, Power, ServerSpec
from muster.host.hypervisor.libvirt import boot_probe, console
from muster.host.hypervisor.libvirt.disks import Builder
from muster.host.hypervisor.libvirt.events import Feed
from muster.host.hypervisor.libvirt.folder import Damaged, Folder, Record, folders
from muster.host.hypervisor.libvirt.libvirtd import LibvirtdSettings, PrivateLibvirtd, require_installed
from muster.host.hypervisor.libvirt.turns import Turns
from muster.host.images import CachedImage
from muster.host.ports import GuestEvent
from muster.host.qcow2 import read_header

ID = "6f1ed002-ab5d-4a0c-8d6f-1d1f7a9a7f10"
RECORD = Record(boot_nonce=1, disk_nonce=2, base="/b", base_format="raw", image_sha512="00")
SERVER = ServerSpec(
    id=ID,
    generation=1,
    project_id="p",
    user_id="u",
    name="n",
    hostname="h",
    power=Power.RUNNING,
    boot_nonce=1,
    disk_nonce=2,
    image=ImageSpec(id="i", disk_format="raw", size_bytes=1, sha512="AB"),
)


def test_record_is_read_as_written_and_replaced_whole(tmp_path: Path) -> None:
    folder = Folder(tmp_path, ID)
    assert folder.read() is None
    folder.make()
    assert folder.read() is None
    folder.write(RECORD)
    folder.write(msgspec.structs.replace(RECORD, boot_nonce=2))
    assert Folder(tmp_path, ID).read() == msgspec.structs.replace(RECORD, boot_nonce=2)
    assert [path.name for path in folder.path.iterdir()] == ["record.json"]
    assert folder.path.stat().st_mode & 0o066 == 0
    assert (folder.path / "record.json").stat().st_mode & 0o077 == 0
    assert [found.server_id for found in folders(tmp_path)] == [ID]


def test_a_damaged_record_is_not_taken_for_none(tmp_path: Path) -> None:
    folder = Folder(tmp_path, ID)
    folder.make()
    (folder.path / "record.json").write_text("{")
    with pytest.raises(Damaged):
        folder.read()
    folder.remove()
    folder.remove()
    assert list(folders(tmp_path)) == []


def test_other_files_are_no_guests(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / ID).touch()
    (tmp_path / "7f1ed002-ab5d-4a0c-8d6f-1d1f7a9a7f10").symlink_to("/")
    assert list(folders(tmp_path)) == []
    assert list(folders(tmp_path / "none")) == []


def test_a_disk_is_at_least_as_large_as_its_image_and_made_anew(tmp_path: Path) -> None:
    builder, folder = Builder(network_of=lambda network_id: None), Folder(tmp_path, ID)
    image = CachedImage(tmp_path / "base", "raw", 3 << 30)
    for disk_gib, size in ((2, 3 << 30), (4, 4 << 30)):
        builder.build(folder, msgspec.structs.replace(SERVER, disk_gib=disk_gib), image)
        assert read_header(folder.disk).virtual_size == size
    assert folder.read() == Record(
        boot_nonce=1, disk_nonce=2, base=str(tmp_path / "base"), base_format="raw", image_sha512="ab"
    )
    assert not folder.config_drive.exists()
    builder.build(folder, msgspec.structs.replace(SERVER, config_drive=True), image)
    record = folder.read()
    assert record is not None
    assert record.config_drive
    assert folder.config_drive.read_bytes()[32_769:32_774] == b"CD001"


def test_a_crash_while_a_disk_is_made_leaves_no_record(tmp_path: Path) -> None:
    folder = Folder(tmp_path, ID)
    folder.make()
    folder.write(RECORD)
    bad = msgspec.structs.replace(SERVER, config_drive=True, user_data="%%%not base64")
    with pytest.raises(Invalid):
        Builder(network_of=lambda network_id: None).build(folder, bad, CachedImage(tmp_path / "base", "raw", 512))
    assert folder.read() is None


def test_console_tail(tmp_path: Path) -> None:
    path = tmp_path / "console"
    assert console.tail(path, 5) == ""
    path.write_bytes(b"one\r\ntwo\n\xff\n" + "drei ä".encode())
    assert console.tail(path, None) == "one\r\ntwo\n�\ndrei ä"
    assert console.tail(path, 2) == "�\ndrei ä"
    assert console.tail(path, 0) == ""
    path.write_bytes(b"x" * 300_000 + b"\nend\n")
    assert len(console.tail(path, None)) == console.MAX_OUTPUT_BYTES
    assert console.tail(path, 1) == "end\n"


def test_a_console_is_bounded_while_it_is_written(tmp_path: Path) -> None:
    path, keep = tmp_path / "console", 64 * 1024
    with path.open("ab", buffering=0) as guest:
        for number in range(100):
            guest.write(f"{number}\n".encode().rjust(16_384, b"."))
            console.bound(path, keep)
            assert path.stat().st_blocks * 512 <= 2 * keep + 32_768
    assert console.tail(path, 1).endswith(".99\n")
    assert "\0" not in console.tail(path, None)
    assert not console.bound(path, keep)
    assert not console.bound(tmp_path / "none", keep)


def test_a_console_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 500_000)
    (tmp_path / "console").symlink_to(tmp_path / "file")
    with pytest.raises(OSError):
        console.bound(tmp_path / "console", 4_096)


async def test_feed_keeps_the_newest_state_of_each_guest() -> None:
    feed, seen = Feed(), []
    for server, state in (("a", GuestState.RUNNING), ("b", GuestState.RUNNING), ("a", GuestState.STOPPED)):
        feed.tell(server, state)
    with feed.quiet("c"):
        feed.tell("c", GuestState.STOPPED)
    with feed.stopping("c") as stopped:
        feed.tell("c", GuestState.RUNNING)
        assert not stopped.is_set()
        feed.tell("c", GuestState.STOPPED)
        assert stopped.is_set()
    feed.close()
    async for event in feed.events():
        seen.append(event)
    states = [("a", GuestState.STOPPED), ("b", GuestState.RUNNING), ("c", GuestState.STOPPED)]
    assert seen == [GuestEvent(*pair) for pair in states]


async def test_feed_wakes_who_waits() -> None:
    feed = Feed()
    waiting = asyncio.create_task(anext(feed.events()))
    await asyncio.sleep(0)
    feed.tell("a", GuestState.RUNNING)
    assert await waiting == GuestEvent("a", GuestState.RUNNING)


async def test_turns_are_one_at_a_time_and_in_order() -> None:
    turns, log = Turns(), []

    async def work(server: str, name: str) -> None:
        async with turns.of(server):
            log.append(name)
            await asyncio.sleep(0)
            log.append(name)

    moment = turns.moment()
    await asyncio.gather(work("a", "1"), work("a", "2"), work("b", "3"), work("a", "4"))
    assert [name for name in log if name != "3"] == ["1", "1", "2", "2", "4", "4"]
    assert log.index("3") < log.index("2")
    assert turns.changed_since("a", moment)
    assert not turns.changed_since("c", moment)
    assert not turns.changed_since("a", turns.moment())
    with pytest.raises(KeyError):
        async with turns.of("c"):
            raise KeyError
    assert turns.changed_since("c", moment)


async def test_long_forgotten_turns_count_as_changes() -> None:
    turns = Turns()
    moment = turns.moment()
    for number in range(10_050):
        async with turns.of(str(number)):
            pass
    assert turns.changed_since("0", moment)
    assert turns.changed_since("never seen", moment)
    assert not turns.changed_since("0", turns.moment())


@pytest.mark.skipif(shutil.which("as") is None or shutil.which("objdump") is None, reason="binutils is not installed")
def test_the_probes_code_is_what_its_comments_say(tmp_path: Path) -> None:
    """The 16-bit start, disassembled; the rest is run by the system tests."""
    (tmp_path / "code").write_bytes(boot_probe.boot_disk()[:69])
    command = ["objdump", "-D", "-b", "binary", "-m", "i8086", "--no-show-raw-insn", str(tmp_path / "code")]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    told = re.findall(r"^ +[0-9a-f]+:\t(\w+)", text, re.MULTILINE)
    listed = [line.partition("#")[2].replace("1: ", "").split()[0] for line in _code_lines()]
    assert len(told) > 15
    assert told == [{"lgdt": "lgdtw"}.get(word, word) for word in listed[: len(told)]]


def _code_lines() -> list[str]:
    return [line for line in boot_probe._LISTING.splitlines() if line and not line.startswith("#")]


def test_boot_disk_is_bootable() -> None:
    disk = boot_probe.boot_disk()
    assert len(disk) == 1 << 20
    assert disk[510:512] == b"\x55\xaa"
    assert not any(disk[512:])


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MusterError, match=r"apt-get install .*libvirt-daemon .*qemu-system-x86 tini util-linux"):
        require_installed()


def test_paths_that_libvirt_cannot_use_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="too long"):
        PrivateLibvirtd(LibvirtdSettings(directory=tmp_path / ("x" * 100)))
    odd = PrivateLibvirtd(LibvirtdSettings(directory=Path('/tmp/a"b')))
    with pytest.raises(Invalid, match="another data directory"):
        odd._libvirtd_conf("u")
    assert PrivateLibvirtd(LibvirtdSettings(directory=Path("/a b?c"))).uri.endswith(
        "?socket=/a%20b%3Fc/run/libvirt-sock"
    )


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path leaves room for the names of sockets."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.parametrize("failure", [subprocess.TimeoutExpired("unshare", 10), OSError(24, "Too many open files")])
def test_a_daemon_that_cannot_be_spawned_is_tried_again(
    short_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """What only subprocess knows of once ended the task that keeps libvirtd alive."""

    def run(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(subprocess, "run", run)
    (short_path / "log").mkdir()
    with pytest.raises(Transient, match=re.escape(str(failure))):
        PrivateLibvirtd(LibvirtdSettings(directory=short_path))._spawn(0)


def test_a_daemons_log_is_bounded_and_its_end_is_told(short_path: Path) -> None:
    daemon = PrivateLibvirtd(LibvirtdSettings(directory=short_path))
    daemon.bound_log()
    (short_path / "log").mkdir()
    log = short_path / "log" / "libvirtd.log"
    log.write_bytes(b"x" * (3 << 20) + b"\nthe end\n")
    daemon.bound_log()
    assert log.stat().st_blocks * 512 <= 2 << 20
    assert daemon._last_words().endswith("the end")


def test_no_daemon_is_no_error_to_stop() -> None:
    daemon = PrivateLibvirtd(LibvirtdSettings(directory=Path("/nowhere/at/all")))
    assert not daemon.is_running()
    daemon.stop()


async def test_libvirts_own_test_driver_is_called_and_its_events_arrive() -> None:
    pytest.importorskip("libvirt")
    from muster.host.hypervisor.libvirt.connection import Connection

    happened: asyncio.Queue[tuple[str, str, int]] = asyncio.Queue()
    connection = Connection(
        "test:///default",
        2,
        on_event=lambda *what: happened.put_nowait(what),
        on_removed=lambda *what: None,
        on_lost=lambda: None,
    )
    xml = f"<domain type='test'><name>x</name><uuid>{ID}</uuid><memory>8192</memory><os><type>hvm</type></os></domain>"
    try:
        await connection.call(lambda libvirt: libvirt.createXML(xml, 0) and None)
        assert (await asyncio.wait_for(happened.get(), 300))[:2] == (ID, "x")
        with pytest.raises(NotFound):
            await connection.call(lambda libvirt: libvirt.lookupByName("nobody"))
        with pytest.raises(Invalid):
            await connection.call(lambda libvirt: libvirt.createXML("<nonsense/>", 0))
        assert connection.calls == 3
    finally:
        await connection.close()
    with pytest.raises(Transient):
        await connection.call(lambda libvirt: None)


def test_a_creation_is_one_call_and_a_listing_another() -> None:
    pytest.importorskip("libvirt")
    from muster.host.hypervisor.libvirt import domains

    connection = MagicMock()
    domains.create("<domain/>")(connection)
    assert connection.mock_calls == [call.createXML("<domain/>", 0)]
    connection = MagicMock()
    ours, other = MagicMock(), MagicMock()
    ours.UUIDString.return_value, ours.name.return_value = ID, f"muster-{ID}"
    other.UUIDString.return_value, other.name.return_value = "x", "a machine of somebody else"
    connection.listAllDomains.return_value = [ours, other]
    assert domains.running(connection) == {ID}
    assert [name for name, _, _ in connection.mock_calls] == ["listAllDomains"]


def test_paths_are_the_machines_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert os.path.isabs(Folder(Path("relative"), ID).disk)
