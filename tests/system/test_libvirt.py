"""Real guests: `LibvirtHypervisor` over a libvirtd of the test's own, with guests of one sector under emulation."""

import asyncio
import base64
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

pytest.importorskip("libvirt")

from namespaces import inside
from tests.commands import HANG_S, sh, started
from tiny_guest import tiny_disk

from benchmarks.family import watched_family
from muster.base.errors import Conflict, NotFound, Transient
from muster.cli.built_guest import default_cache_dir
from muster.cli.main import main
from muster.domain.reports import GuestState
from muster.domain.specs import ImageSpec, PortSpec, Power, ServerSpec
from muster.guest.build import build_image
from muster.host.hypervisor.libvirt import hypervisor as hypervisor_module
from muster.host.hypervisor.libvirt.accelerator import ProbeSettings, choose_accelerator, why_not
from muster.host.hypervisor.libvirt.hypervisor import LibvirtHypervisor
from muster.host.hypervisor.libvirt.libvirtd import LibvirtdSettings, PrivateLibvirtd, require_installed
from muster.host.hypervisor.libvirt.settings import Accelerator, LibvirtSettings
from muster.host.images import ImageCache
from muster.host.names import tap_name
from muster.host.ports import Guest, GuestEvent, Outcome, Stranger

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.timeout(900)]


class Host:
    """A network namespace, a libvirtd in it, and an image."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.namespace = f"muster-libvirt-{uuid.uuid4().hex[:8]}"
        self.daemon = PrivateLibvirtd(LibvirtdSettings(directory=directory / "libvirtd"))
        self.disk = tiny_disk()
        digest = hashlib.sha512(self.disk).hexdigest()
        self.image = ImageSpec(id=str(uuid.uuid4()), disk_format="raw", size_bytes=len(self.disk), sha512=digest)

    def start(self) -> None:
        sh("ip", "netns", "add", self.namespace)
        inside(self.namespace, self.daemon.start)

    def remove(self) -> None:
        self.daemon.stop()
        subprocess.run(["ip", "netns", "del", self.namespace], capture_output=True, timeout=120, check=False)

    async def fetch(self, image: ImageSpec, target: Path) -> None:
        await asyncio.to_thread(target.write_bytes, self.disk)

    def port(self) -> PortSpec:
        """A port whose tap stands."""
        port = PortSpec(
            id=str(uuid.uuid4()), network_id=str(uuid.uuid4()), mac_address=f"fa:16:3e:{os.urandom(3).hex(':')}"
        )
        sh("ip", "-n", self.namespace, "tuntap", "add", "dev", tap_name(port.id), "mode", "tap", "vnet_hdr")
        return port

    def in_use(self, port: PortSpec) -> bool:
        """Whether a guest has the port's tap open."""
        sh("ip", "-n", self.namespace, "link", "set", tap_name(port.id), "up")
        return "NO-CARRIER" not in sh("ip", "-n", self.namespace, "link", "show", tap_name(port.id))

    def server(self, *, n_ports: int = 0, **more: object) -> ServerSpec:
        server_id = str(uuid.uuid4())
        ports = tuple(self.port() for _ in range(n_ports))
        spec = ServerSpec(
            id=server_id,
            generation=1,
            project_id="p",
            user_id="u",
            name="tiny <&> 'guest'",
            hostname="tiny",
            power=Power.RUNNING,
            ram_mib=32,
            image=self.image,
            ports=ports,
        )
        return msgspec.structs.replace(spec, **more)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    require_installed()
    # Sockets have short names only.
    with tempfile.TemporaryDirectory(prefix="mlv-", dir="/tmp") as directory:
        host = Host(Path(directory))
        try:
            host.start()
            yield host
        finally:
            host.remove()


def settings_of(host: Host, tmp_path: Path) -> LibvirtSettings:
    return LibvirtSettings(
        instances_dir=tmp_path / "instances",
        uri=host.daemon.uri,
        owner=tmp_path.name,
        accelerator=Accelerator.TCG,
        shutdown_timeout_s=5.0,
        qemu_log_dir=host.daemon.qemu_log_dir,
    )


Open = Callable[..., LibvirtHypervisor]


@pytest.fixture
async def opened(host: Host, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens hypervisors over the same directories; at the end all their guests are removed."""
    made: list[LibvirtHypervisor] = []

    def open_(**changes: object) -> LibvirtHypervisor:
        settings = msgspec.structs.replace(settings_of(host, tmp_path), **changes)
        made.append(LibvirtHypervisor(settings, ImageCache(host, tmp_path / "images")))
        return made[-1]

    try:
        yield open_
        last = open_()
        async with asyncio.timeout(HANG_S):
            await last.remove(list(await last.observe()))
            assert await last.observe() == {}
    finally:
        for hypervisor in made:
            await hypervisor.close()


def done(outcomes: list[Outcome]) -> None:
    assert [outcome.fault for outcome in outcomes] == [None] * len(outcomes)


async def run(hypervisor: LibvirtHypervisor, *servers: ServerSpec) -> None:
    done(await hypervisor.prepare(servers))
    done(await hypervisor.start(servers))


async def until(question: Callable[[], Awaitable[bool]], timeout_s: float = 300) -> None:
    end = time.monotonic() + timeout_s
    while not await question():
        assert time.monotonic() < end, "did not happen in time"
        await asyncio.sleep(0.05)


async def until_said(hypervisor: LibvirtHypervisor, server: ServerSpec, text: str, timeout_s: float = 300) -> None:
    async def said() -> bool:
        return text in await hypervisor.console_output(server.id, None)

    await until(said, timeout_s)


async def next_event(events: AsyncIterator[GuestEvent]) -> GuestEvent:
    return await asyncio.wait_for(anext(events), 300)


def alone(guests: object, server: ServerSpec) -> Guest:
    assert isinstance(guests, dict)
    assert set(guests) == {server.id}
    guest = guests[server.id]
    assert isinstance(guest, Guest)
    return guest


async def test_what_a_guest_takes(host: Host, opened: Open) -> None:
    hypervisor, server = opened(), host.server(n_ports=2, config_drive=True)
    with pytest.raises(NotFound):
        await hypervisor.diagnostics(server.id)
    await run(hypervisor, server)
    await until_said(hypervisor, server, "boot 1\r\n")
    found = await hypervisor.diagnostics(server.id)
    assert (found.hypervisor, found.paused, found.ram_max_mib, len(found.cpu_times_ns)) == ("qemu", False, 32, 1)
    assert found.ram_used_mib
    assert sum(time_ns or 0 for time_ns in found.cpu_times_ns) > 0
    assert {card.mac_address for card in found.cards} == {port.mac_address for port in server.ports}
    assert all(card.rx_octets is not None and card.tx_errors is not None for card in found.cards)
    assert [disk.name for disk in found.disks][:1] == ["vda"]
    assert found.disks[0].read_bytes
    assert found.disks[0].write_requests is not None

    done(await hypervisor.stop([server.id], hard=True))
    with pytest.raises(Conflict):
        await hypervisor.diagnostics(server.id)


async def test_a_guests_start_starts_qemu_and_nothing_else(opened: Open) -> None:
    """libvirt 9 ran `tc` for each of its network cards."""
    with watched_family() as family, tempfile.TemporaryDirectory(prefix="mlv-", dir="/tmp") as directory:
        if family is None:
            pytest.skip("the kernel does not tell here who starts what")
        host = Host(Path(directory))
        try:
            await asyncio.to_thread(host.start)
            hypervisor = opened(uri=host.daemon.uri)
            first, second = host.server(), host.server(n_ports=2)
            await run(hypervisor, first)  # of which the daemon learns what QEMU and the machine can do
            before = family.programs()
            await run(hypervisor, second)
            started = family.programs() - before
            assert not family.lost
            by_libvirt = {name: number for name, number in started.items() if name.startswith("libvirtd: ")}
            assert by_libvirt == {"libvirtd: qemu-system-x86_64": 1}
            done(await hypervisor.remove([first.id, second.id]))
        finally:
            await asyncio.to_thread(host.remove)


async def test_a_guests_whole_life(host: Host, opened: Open, tmp_path: Path) -> None:
    hypervisor, server = opened(), host.server(n_ports=1, config_drive=True, boot_nonce=3, disk_nonce=2)
    events = hypervisor.events()
    assert await hypervisor.observe() == {}
    before = hypervisor.libvirt_calls
    done(await hypervisor.prepare([server]))
    assert hypervisor.libvirt_calls == before
    stopped = Guest(server_id=server.id, state=GuestState.STOPPED, boot_nonce=3, disk_nonce=2)
    assert await hypervisor.observe() == {server.id: stopped}
    before = hypervisor.libvirt_calls
    done(await hypervisor.start([server]))
    assert hypervisor.libvirt_calls - before == 1
    running = msgspec.structs.replace(stopped, state=GuestState.RUNNING)
    assert await hypervisor.observe() == {server.id: running}
    assert await next_event(events) == GuestEvent(server.id, GuestState.RUNNING)
    await until_said(hypervisor, server, "boot 1\r\n")
    assert await hypervisor.console_output(server.id, 1) == "tiny guest, boot 1\r\n"
    # Again: nothing happens.
    await run(hypervisor, server)
    done(await hypervisor.stop([server.id], hard=True))
    assert await next_event(events) == GuestEvent(server.id, GuestState.STOPPED)
    assert await hypervisor.observe() == {server.id: stopped}
    done(await hypervisor.stop([server.id], hard=True))
    # Its disk is still there.
    done(await hypervisor.start([server]))
    await until_said(hypervisor, server, "boot 2\r\n")
    assert await next_event(events) == GuestEvent(server.id, GuestState.RUNNING)
    done(await hypervisor.remove([server.id]))
    assert await next_event(events) == GuestEvent(server.id, GuestState.ABSENT)
    assert await hypervisor.observe() == {}
    assert list((tmp_path / "instances").iterdir()) == []
    with pytest.raises(NotFound):
        await hypervisor.console_output(server.id, None)
    assert list(host.daemon.qemu_log_dir.glob(f"*{server.id}*")) == []
    done(await hypervisor.remove([server.id]))


async def test_a_guest_that_nobody_knows_is_kept_and_comes_back_with_its_disk(
    host: Host, opened: Open, tmp_path: Path
) -> None:
    hypervisor = opened(shutdown_timeout_s=0.2)  # these guests do not listen to the power button
    known, gone = host.server(), host.server()
    await run(hypervisor, known, gone)
    instances, kept = tmp_path / "instances", tmp_path / "instances" / "kept"
    (instances / known.id / "mine").write_text("what a user wrote")
    done(await hypervisor.keep([Stranger(known.id, known), Stranger(gone.id), Stranger(str(uuid.uuid4()))]))
    assert await hypervisor.observe() == {}
    assert not await asyncio.to_thread(host.daemon.count_guests)
    assert {path.name for path in kept.iterdir()} == {known.id, gone.id}
    listed = CliRunner().invoke(main, ["kept", "--data", str(_data_of(tmp_path))], env={"COLUMNS": "160"})
    assert f"{known.id}  " in listed.output
    assert known.name in listed.output
    await hypervisor.evict_images()
    assert list((tmp_path / "images").iterdir()), "its disk is a clone of it"

    again = msgspec.structs.replace(known, generation=2)
    await run(hypervisor, again)
    assert alone(await hypervisor.observe(), again).state is GuestState.RUNNING
    assert (instances / known.id / "mine").read_text() == "what a user wrote"
    assert not (instances / known.id / "kept.json").exists()

    refused = CliRunner().invoke(main, ["kept", "--data", str(_data_of(tmp_path)), "--remove", "../images"])
    assert refused.exit_code == 1
    removed = CliRunner().invoke(main, ["kept", "--data", str(_data_of(tmp_path)), "--remove", gone.id])
    assert removed.exit_code == 0, removed.output
    assert list(kept.iterdir()) == []


async def test_what_is_kept_goes_when_its_time_is_over(host: Host, opened: Open, tmp_path: Path) -> None:
    hypervisor = opened(shutdown_timeout_s=0.2, keep_unknown_s=1.0, kept_check_s=0.2)
    server = host.server()
    await run(hypervisor, server)
    done(await hypervisor.keep([Stranger(server.id)]))

    async def none_is_left() -> bool:
        return list((tmp_path / "instances" / "kept").iterdir()) == []

    await until(none_is_left)
    hasty = opened(keep_unknown_s=0.0)
    await run(hasty, server)
    done(await hasty.keep([Stranger(server.id)]))
    assert [path.name for path in (tmp_path / "instances").iterdir()] == ["kept"]


def _data_of(tmp_path: Path) -> Path:
    """A cloud's folder with these instances."""
    data = tmp_path / "data"
    (data / "host").mkdir(parents=True, exist_ok=True)
    if not (data / "host" / "instances").exists():
        (data / "host" / "instances").symlink_to(tmp_path / "instances")
    return data


async def test_the_power_button_is_pressed_before_the_plug_is_pulled(host: Host, opened: Open) -> None:
    hypervisor, server = opened(shutdown_timeout_s=300.0), host.server()
    await run(hypervisor, server)
    await until_said(hypervisor, server, "boot 1")
    done(await hypervisor.stop([server.id], hard=False))
    await until_said(hypervisor, server, "power button")
    assert alone(await hypervisor.observe(), server).state is GuestState.STOPPED


async def test_the_power_button_is_pressed_again_for_a_guest_that_was_still_booting(host: Host, opened: Open) -> None:
    """It was pressed once, which nobody heard: such a guest was ended the hard way, a minute later."""
    hypervisor, server = opened(shutdown_timeout_s=300.0, press_again_s=0.5), host.server()
    await run(hypervisor, server)
    done(await hypervisor.stop([server.id], hard=False))
    await until_said(hypervisor, server, "power button")
    assert alone(await hypervisor.observe(), server).state is GuestState.STOPPED


async def test_a_guest_that_ignores_the_button_is_ended_in_time(host: Host, opened: Open) -> None:
    hypervisor, server = opened(shutdown_timeout_s=0.2), host.server()
    await run(hypervisor, server)
    # Not yet booted: nobody listens to the button.
    done(await hypervisor.stop([server.id], hard=False))
    assert alone(await hypervisor.observe(), server).state is GuestState.STOPPED


@pytest.mark.parametrize("hard", [True, False])
async def test_a_higher_boot_nonce_restarts_a_guest_and_keeps_its_disk(host: Host, opened: Open, hard: bool) -> None:
    hypervisor, server = opened(shutdown_timeout_s=300.0), host.server()
    events = hypervisor.events()
    await run(hypervisor, server)
    await until_said(hypervisor, server, "boot 1")
    assert await next_event(events) == GuestEvent(server.id, GuestState.RUNNING)
    again = msgspec.structs.replace(server, boot_nonce=1, boot_hard=hard)
    await run(hypervisor, again)
    await until_said(hypervisor, server, "boot 2")
    assert ("power button" in await hypervisor.console_output(server.id, None)) is not hard
    assert alone(await hypervisor.observe(), server).boot_nonce == 1
    # Not told as stopped meanwhile.
    assert await next_event(events) == GuestEvent(server.id, GuestState.RUNNING)
    # A late message with the old nonce changes nothing.
    await run(hypervisor, server)
    assert alone(await hypervisor.observe(), server).boot_nonce == 1
    assert "boot 3" not in await hypervisor.console_output(server.id, None)


async def test_a_higher_disk_nonce_makes_a_new_disk(host: Host, opened: Open) -> None:
    hypervisor, server = opened(), host.server()
    await run(hypervisor, server)
    await until_said(hypervisor, server, "boot 1")
    rebuilt = msgspec.structs.replace(server, disk_nonce=1)
    assert (await hypervisor.start([rebuilt]))[0].fault is not None
    await run(hypervisor, rebuilt)

    async def twice() -> bool:
        return (await hypervisor.console_output(server.id, None)).count("boot 1") == 2

    await until(twice)
    guest = alone(await hypervisor.observe(), server)
    assert (guest.state, guest.disk_nonce) == (GuestState.RUNNING, 1)


_AGENT = """
import asyncio, os, sys
import msgspec
from muster.domain.specs import ServerSpec
from muster.host.hypervisor.libvirt.hypervisor import LibvirtHypervisor
from muster.host.hypervisor.libvirt.settings import LibvirtSettings
from muster.host.images import ImageCache

async def main():
    settings = msgspec.json.decode(sys.argv[1], type=LibvirtSettings, dec_hook=lambda kind, value: kind(value))
    servers = msgspec.json.decode(sys.argv[2], type=list[ServerSpec])
    hypervisor = LibvirtHypervisor(settings, ImageCache(None, sys.argv[3]))
    await hypervisor.start(servers)
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""


async def _killed_by_itself(*words: str) -> None:
    async with started(*words) as agent:
        assert await asyncio.wait_for(agent.wait(), HANG_S) == -signal.SIGKILL


async def test_who_has_left_libvirt_takes_no_place_of_it(host: Host, opened: Open) -> None:
    """The daemon here has room for 20."""
    for _ in range(25):
        hypervisor = opened()
        async with asyncio.timeout(300):
            assert await hypervisor.observe() == {}
        await hypervisor.close()


async def test_guests_of_a_killed_agent_are_taken_over(host: Host, opened: Open, tmp_path: Path) -> None:
    hypervisor, server = opened(), host.server(boot_nonce=7)
    done(await hypervisor.prepare([server]))
    settings = msgspec.json.encode(settings_of(host, tmp_path), enc_hook=str).decode()
    words = [sys.executable, "-c", textwrap.dedent(_AGENT), settings, msgspec.json.encode([server]).decode(), "none"]
    await _killed_by_itself(*words)
    adopted = opened()
    assert alone(await adopted.observe(), server) == Guest(
        server_id=server.id, state=GuestState.RUNNING, boot_nonce=7, disk_nonce=0
    )
    await until_said(adopted, server, "boot 1")
    # Even without its folder it is known, by its mark, and can be removed.
    shutil.rmtree(tmp_path / "instances" / server.id)
    assert alone(await adopted.observe(), server).boot_nonce == 7
    assert await opened(owner="another").observe() == {}
    done(await adopted.remove([server.id]))
    assert await adopted.observe() == {}


async def test_an_agent_killed_in_the_middle_of_a_batch_loses_nothing(host: Host, opened: Open, tmp_path: Path) -> None:
    hypervisor, servers = opened(), [host.server(boot_nonce=1) for _ in range(8)]
    done(await hypervisor.prepare(servers))
    one_thread = msgspec.structs.replace(settings_of(host, tmp_path), threads=1)
    settings = msgspec.json.encode(one_thread, enc_hook=str).decode()
    program = _AGENT.replace("await hypervisor.start(servers)", "asyncio.ensure_future(hypervisor.start(servers))")
    # As soon as the first one runs; the others wait for the one thread.
    program = program.replace("    os.kill", "    await anext(hypervisor.events())\n    os.kill")
    await _killed_by_itself(sys.executable, "-c", program, settings, msgspec.json.encode(servers).decode(), "none")
    seen = await hypervisor.observe()
    assert set(seen) == {server.id for server in servers}
    assert any(guest.state is GuestState.STOPPED for guest in seen.values())
    done(await hypervisor.start(servers))
    assert {guest.state for guest in (await hypervisor.observe()).values()} == {GuestState.RUNNING}
    await asyncio.gather(*(until_said(hypervisor, server, "boot 1") for server in servers))


async def test_a_crashed_guest_is_told_and_seen(host: Host, opened: Open) -> None:
    hypervisor, server = opened(), host.server()
    events = hypervisor.events()
    await run(hypervisor, server)
    assert (await next_event(events)).state is GuestState.RUNNING
    found = [pid for pid in Path("/proc").glob("[0-9]*") if _is_qemu_of(pid, server)]
    assert len(found) == 1
    os.kill(int(found[0].name), signal.SIGKILL)
    assert await next_event(events) == GuestEvent(server.id, GuestState.STOPPED)
    assert alone(await hypervisor.observe(), server).state is GuestState.STOPPED
    await run(hypervisor, server)
    await until_said(hypervisor, server, "boot")


def _is_qemu_of(process: Path, server: ServerSpec) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"qemu-system" in words[0] and server.id.encode() in words


async def test_a_restarted_libvirtd_keeps_guests_and_events_go_on(
    host: Host, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for who is there again so soon that libvirtd is still taking over its guests."""
    monkeypatch.setattr(hypervisor_module, "_RECONNECT_S", 0.003)
    hypervisor, server = opened(), host.server()
    events = hypervisor.events()
    await run(hypervisor, server)
    assert (await next_event(events)).state is GuestState.RUNNING
    pid_file = host.directory / "libvirtd" / "libvirtd.pid"
    inside = int(pid_file.read_text())
    mine = [status for status in Path("/proc").glob("[0-9]*/status") if _is_daemon(status, inside, host)]
    assert len(mine) == 1
    os.kill(int(mine[0].parent.name), signal.SIGKILL)
    # Told anew after reconnecting.
    assert await next_event(events) == GuestEvent(server.id, GuestState.RUNNING)
    assert alone(await hypervisor.observe(), server).state is GuestState.RUNNING
    done(await hypervisor.stop([server.id], hard=True))
    assert await next_event(events) == GuestEvent(server.id, GuestState.STOPPED)


def _is_daemon(status: Path, pid_inside: int, host: Host) -> bool:
    try:
        words = status.with_name("cmdline").read_bytes().split(b"\0")
        inside = next(line for line in status.read_text().splitlines() if line.startswith("NSpid:")).split()[-1]
    except (OSError, StopIteration):
        return False
    return words[0] == b"libvirtd" and os.fsencode(host.directory) in words[2] and int(inside) == pid_inside


async def test_ten_guests_in_one_batch_and_one_bad_one(host: Host, opened: Open) -> None:
    hypervisor = opened()
    servers = [host.server(n_ports=1) for _ in range(10)]
    await hypervisor.observe()
    done(await hypervisor.prepare(servers))
    # A tap that is not there: libvirt refuses this one alone.
    missing = PortSpec(id=str(uuid.uuid4()), network_id=str(uuid.uuid4()), mac_address="fa:16:3e:00:00:01")
    bad = msgspec.structs.replace(host.server(), ports=(missing,))
    no_image = msgspec.structs.replace(host.server(), image=None)
    prepared = await hypervisor.prepare([bad, no_image])
    assert [outcome.fault is None for outcome in prepared] == [True, False]
    before = hypervisor.libvirt_calls
    outcomes = await hypervisor.start([*servers, bad])
    assert hypervisor.libvirt_calls - before == 11
    assert [outcome.server_id for outcome in outcomes if outcome.fault] == [bad.id]
    await asyncio.gather(*(until_said(hypervisor, server, "boot 1") for server in servers))
    states = {server_id: guest.state for server_id, guest in (await hypervisor.observe()).items()}
    assert states == {**{server.id: GuestState.RUNNING for server in servers}, bad.id: GuestState.STOPPED}
    assert await hypervisor.evict_images() == 0
    done(await hypervisor.remove([*states]))
    assert await hypervisor.observe() == {}
    assert await hypervisor.evict_images() == len(host.disk)


async def test_an_image_store_that_is_away_fails_nobody(host: Host, tmp_path: Path) -> None:
    class Away:
        async def fetch(self, image: ImageSpec, target: Path) -> None:
            raise Transient("the image store is away", retry_after_s=3.0)

    hypervisor = LibvirtHypervisor(settings_of(host, tmp_path), ImageCache(Away(), tmp_path / "images"))
    try:
        server = host.server()
        assert await hypervisor.prepare([server]) == [Outcome(server.id, retry_after_s=3.0)]
        assert await hypervisor.observe() == {}
    finally:
        await hypervisor.close()


async def test_what_is_asked_at_the_same_time_is_done_in_turn(host: Host, opened: Open) -> None:
    hypervisor, server = opened(), host.server()
    await hypervisor.prepare([server])
    first, second = await asyncio.gather(hypervisor.start([server]), hypervisor.start([server]))
    done(first + second)
    started, stopped = await asyncio.gather(hypervisor.start([server]), hypervisor.stop([server.id], hard=True))
    done(started + stopped)
    started, removed = await asyncio.gather(hypervisor.start([server]), hypervisor.remove([server.id]))
    done(removed)
    assert all(outcome.fault is None or outcome.fault.code == 409 for outcome in started)
    assert await hypervisor.observe() == {}


async def test_a_guest_without_an_operating_system_gets_cards_and_keeps_them(host: Host, opened: Open) -> None:
    """It lets go of nothing, so nothing waits for it beyond its time; what it was asked for holds at its next start."""
    hypervisor, server = opened(card_timeout_s=0.3), host.server(n_ports=1)
    assert await hypervisor.replug([server]) == [Outcome(server.id)], "nothing runs"
    await run(hypervisor, server)
    before = hypervisor.libvirt_calls
    assert await hypervisor.replug([server]) == [Outcome(server.id)]
    assert hypervisor.libvirt_calls - before == 3
    second = host.port()
    both = msgspec.structs.replace(server, ports=(*server.ports, second))
    assert await hypervisor.replug([both]) == [Outcome(server.id)]
    assert host.in_use(second)
    # One killed in between, and a new agent: it sees what is there and does the rest, which is nothing.
    adopted = opened(card_timeout_s=0.3)
    before = adopted.libvirt_calls
    assert await adopted.replug([both]) == [Outcome(server.id)]
    assert adopted.libvirt_calls - before == 3
    for _ in range(2):
        [outcome] = await adopted.replug([msgspec.structs.replace(server, ports=(second,))])
        assert outcome.fault is None
        assert outcome.retry_after_s is not None
        assert host.in_use(server.ports[0])
    # A tap that does not stand is this guest's fault alone.
    missing = PortSpec(id=str(uuid.uuid4()), network_id="n", mac_address="fa:16:3e:00:00:01")
    good, bad = await hypervisor.replug([both, msgspec.structs.replace(server, ports=(*both.ports, missing))])
    assert good.fault is None
    assert bad.fault is not None
    last = msgspec.structs.replace(server, ports=(second,), boot_nonce=1, boot_hard=True)
    await run(hypervisor, last)
    assert host.in_use(second)
    assert not host.in_use(server.ports[0])


async def test_an_ordinary_guest_reads_its_config_drive_and_takes_network_cards(
    host: Host, opened: Open, tmp_path: Path
) -> None:
    built = tmp_path / "guest.qcow2"
    info = await asyncio.to_thread(build_image, built, default_cache_dir())
    image = ImageSpec(
        id=str(uuid.uuid4()), disk_format=info.disk_format, size_bytes=info.size_bytes, sha512=info.sha512
    )

    class Source:
        async def fetch(self, image: ImageSpec, target: Path) -> None:
            await asyncio.to_thread(shutil.copyfile, built, target)

    settings = msgspec.structs.replace(settings_of(host, tmp_path), shutdown_timeout_s=300.0, card_timeout_s=300.0)
    hypervisor = LibvirtHypervisor(settings, ImageCache(Source(), tmp_path / "images"))
    try:
        user_data = base64.b64encode(_SHOWS_ITS_CARDS).decode()
        server = host.server(ram_mib=128, image=image, hostname="reader", config_drive=True, user_data=user_data)
        await run(hypervisor, server)
        await until_said(hypervisor, server, "muster-guest: ready hostname=reader")
        said = await hypervisor.console_output(server.id, None)
        assert f"metadata source=config-drive instance={server.id}" in said
        assert "user data of reader" in said
        await _cards_come_and_go(host, hypervisor, server)
        done(await hypervisor.stop([server.id], hard=False))
        assert "going down" in await hypervisor.console_output(server.id, None)
    finally:
        await hypervisor.close()


#: Says which network cards there are, whenever they change.
_SHOWS_ITS_CARDS = b"""#!/bin/sh
echo user data of $(hostname)
(
    while sleep 0.2; do
        now=$(cat /sys/class/net/eth*/address 2>/dev/null | sort | tr '\\n' ' ')
        [ "$now" = "$before" ] || echo "cards: ${now}end" >/dev/console
        before=$now
    done
) &
"""


async def _cards_come_and_go(host: Host, hypervisor: LibvirtHypervisor, server: ServerSpec) -> None:
    first, second = host.port(), host.port()

    async def has(*ports: PortSpec) -> None:
        assert await hypervisor.replug([msgspec.structs.replace(server, ports=ports)]) == [Outcome(server.id)]
        macs = "".join(f"{mac} " for mac in sorted(port.mac_address for port in ports))
        await until_said(hypervisor, server, f"cards: {macs}end")
        assert [host.in_use(port) for port in (first, second)] == [port in ports for port in (first, second)]

    await has(first)
    await has(first, second)
    await has(second)
    # Another port that has the MAC of the one that goes.
    twin = msgspec.structs.replace(host.port(), mac_address=second.mac_address)
    assert await hypervisor.replug([msgspec.structs.replace(server, ports=(twin, first))]) == [Outcome(server.id)]
    assert [host.in_use(port) for port in (first, second, twin)] == [True, False, True]
    await has()


async def test_capacity_is_the_machines(host: Host, opened: Open) -> None:
    capacity = await opened(reserved_ram_mib=100).capacity()
    total_kib = int(Path("/proc/meminfo").read_text().split()[1])
    assert capacity.vcpus == os.cpu_count()
    assert capacity.ram_mib == total_kib // 1024
    assert capacity.reserved_ram_mib == 100
    assert capacity.disk_gib > 0


async def test_without_libvirt_everything_is_transient(tmp_path: Path, opened: Open) -> None:
    hypervisor = opened(uri=f"qemu+unix:///system?socket={tmp_path}/none")
    with pytest.raises(Transient):
        await hypervisor.observe()


def test_daemon_is_found_again_and_takes_its_guests_along(tmp_path: Path) -> None:
    directory = Path(tempfile.mkdtemp(prefix="mlv-", dir="/tmp"))
    daemon = PrivateLibvirtd(LibvirtdSettings(directory=directory))
    try:
        assert not daemon.is_running()
        daemon.stop()
        daemon.start()
        first = (directory / "pid").read_text()
        PrivateLibvirtd(LibvirtdSettings(directory=directory)).start()
        assert (directory / "pid").read_text() == first
        daemon.stop()
        assert not daemon.is_running()
        assert not Path(f"/proc/{first.strip()}/root").exists()
        # Nothing of it is left, whoever held it.
        left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if os.fsencode(directory) in _cmdline(path)]
        assert left == []
        daemon.start()
        assert (directory / "pid").read_text() != first
    finally:
        daemon.stop()
        shutil.rmtree(directory)


def _cmdline(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_probe_boots_under_emulation_and_the_verdict_is_remembered(tmp_path: Path) -> None:
    settings = ProbeSettings(cache=tmp_path / "verdict.json", cpu="qemu64", timeout_s=300)
    assert why_not("tcg", settings) == ""
    assert why_not("tcg", msgspec.structs.replace(settings, cpu="486", timeout_s=3)) != ""  # no 64-bit mode
    verdict = choose_accelerator(msgspec.structs.replace(settings, cpu="host", timeout_s=5))
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        assert verdict.accelerator is Accelerator.TCG
    remembered = msgspec.structs.replace(verdict, reason="from the cache")
    settings.cache.write_bytes(msgspec.json.encode(remembered))
    assert choose_accelerator(msgspec.structs.replace(settings, cpu="host")) == remembered
    assert choose_accelerator(msgspec.structs.replace(settings, cpu="host", machine="q35")) != remembered
