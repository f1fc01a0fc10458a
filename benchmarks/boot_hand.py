"""Guests started by hand, the floor of the boot benchmark: a bridge, taps, dnsmasq, clones by qemu-img, QEMU, no more.

What a script could prepare stands before the clock starts: the bridge, and dnsmasq with the addresses of all guests.
Invariant: at the end of the block no process, file or link of it is left, however it ends.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import msgspec
from msgspec.structs import replace

from benchmarks.boot_command import Means, base_of, by_hand
from benchmarks.spaces import Space
from muster.base.errors import Transient
from muster.base.tasks import to_its_end
from muster.base.units import iso
from muster.bench.figures import faults, figures
from muster.bench.options import Phase, ServersOptions
from muster.bench.records import Environment, Polling, Sample, ServerRecord, ServersResult
from muster.bench.sampler import sample_into
from muster.client.api import Traffic
from muster.client.ping import Pinger
from muster.client.ssh import SshProbe, SshTarget

_BRIDGE, _GROUP = "floor", 7
_GATEWAY, _METADATA = "10.77.0.1", "169.254.169.254"
_COMMAND_S, _PHASE_S = 60.0, 3600.0


class _Probes(NamedTuple):
    """How it is seen that a guest is there."""

    now: Callable[[], float]
    pinger: Pinger
    ssh: SshProbe


class Images(NamedTuple):
    """The guest's image as it came, and what Muster's host has made of it."""

    packed: Path
    unpacked: Path


class Hand:
    """What stands, and the rounds. Everything works in the calling thread's network namespace: enter it first."""

    def __init__(self, folder: Path, images: Images, command: list[str], most: int, space: Space) -> None:
        self._folder = folder
        self._command = command
        self._space = space
        self._images = images
        self._base = images.unpacked
        self.means = [_means(folder, index) for index in range(most)]
        self._running: dict[int, asyncio.subprocess.Process] = {}

    def qemus(self) -> list[int]:
        """The processes of the guests that run."""
        return [process.pid for process in self._running.values()]

    async def round(
        self, count: int, at_once: int, when_ready: Callable[[], Awaitable[None]], *, unpacked: bool = True
    ) -> ServersResult:
        """So many guests, at most `at_once` of them on their way at a time: all ready, then all gone.

        `when_ready` is called when all are up. `unpacked`: their disks are clones of the unpacked image, otherwise of
        the image as it came. Guests that do not come up are in the result as failed.
        """
        self._base = self._images.unpacked if unpacked else self._images.packed
        self._space.enter()
        began, started_at = time.monotonic(), iso(time.time())

        def now() -> float:
            return time.monotonic() - began

        records = [ServerRecord(index=index, name=self.means[index].name) for index in range(count)]
        samples: list[Sample] = []
        sampling = asyncio.create_task(sample_into(samples, now))
        try:
            async with Pinger(now) as pinger:
                probes = _Probes(now, pinger, SshProbe(SshTarget("root", 22, None), now))
                await _ip([line for mean in self.means[:count] for line in _tap(mean.tap)])
                slots = asyncio.Semaphore(at_once)
                await asyncio.gather(*(self._up(record, slots, probes) for record in records))
                await when_ready()
                await asyncio.gather(*(self._down(record, now) for record in records))
                await _ip([f"link delete group {_GROUP}"])
                end_s = now()
        finally:
            sampling.cancel()
            await self.clear()
        return _result(records, samples, end_s, at_once, started_at)

    async def clear(self) -> None:
        """Whatever runs or stands of a round goes."""
        for index in list(self._running):
            await self._kill(index)
        self._space.enter()
        with contextlib.suppress(Transient):
            await _ip([f"link delete group {_GROUP}"])

    async def _up(self, record: ServerRecord, slots: asyncio.Semaphore, probes: "_Probes") -> None:
        now, phase, there = probes.now, Phase.CREATE, address(record.index)
        record.requested_at_s, record.address = now(), there
        try:
            async with slots, asyncio.timeout(_PHASE_S):
                record.accepted_at_s = now()
                record.id = self.means[record.index].uuid
                await self._start(record.index)
                record.active_at_s, phase = now(), Phase.PING
                record.pinged_at_s = await probes.pinger.first_reply(there)
                phase = Phase.SSH
                record.banner_at_s = record.ready_at_s = await probes.ssh.banner(there)
        except TimeoutError:
            record.fail(phase, f"not within {_PHASE_S:g} s", now())
        except (OSError, Transient) as error:
            record.fail(phase, str(error), now())

    async def _start(self, index: int) -> None:
        mean = replace(self.means[index], base=self._base)
        await _run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(mean.base), str(mean.disk))
        with mean.console.with_suffix(".log").open("wb") as log:
            self._running[index] = await asyncio.create_subprocess_exec(
                *by_hand(self._command, mean),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def _down(self, record: ServerRecord, now: Callable[[], float]) -> None:
        record.delete_requested_at_s = now()
        await self._kill(record.index)
        record.gone_at_s = now()

    async def _kill(self, index: int) -> None:
        process = self._running.pop(index, None)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            await process.wait()
        for file in (self.means[index].disk, self.means[index].console):
            file.unlink(missing_ok=True)


@asynccontextmanager
async def by_the_hand(folder: Path, image: Path, command: list[str], most: int, space: Space) -> AsyncIterator[Hand]:
    """Bridge, addresses, metadata and dnsmasq for `most` guests; gone at the end of the block.

    `image` is the guest's as it came; what its disk is a clone of under libvirt is in the command.
    """
    space.enter()
    os.mkdir(folder, 0o700)
    hand = Hand(folder, Images(image, base_of(command)), command, most, space)
    await _ip(
        [
            f"link add {_BRIDGE} type bridge",
            f"link set {_BRIDGE} mtu 1450 up",
            f"address add {_GATEWAY}/16 dev {_BRIDGE}",
            f"address add {_METADATA}/32 dev {_BRIDGE}",
        ]
    )
    dhcp = await _dnsmasq(folder, hand.means)
    try:
        async with await asyncio.start_server(_answer(hand.means), _METADATA, 80):
            yield hand
    finally:
        await to_its_end(_end(hand, dhcp))


def address(index: int) -> str:
    """The address of a guest."""
    return f"10.77.{1 + index // 200}.{1 + index % 200}"


def _means(folder: Path, index: int) -> Means:
    return Means(
        name=f"by-hand-{index + 1:05d}",
        uuid=str(uuid4()),
        mac=f"52:54:00:77:{index // 256:02x}:{index % 256:02x}",
        tap=f"floor{index}",
        disk=folder / f"{index}.qcow2",
        base=Path(),
        console=folder / f"{index}.console",
    )


def _tap(name: str) -> list[str]:
    return [
        f"tuntap add dev {name} mode tap vnet_hdr",
        f"link set dev {name} group {_GROUP} master {_BRIDGE} mtu 1450 up",
    ]


async def _dnsmasq(folder: Path, means: Sequence[Means]) -> asyncio.subprocess.Process:
    """As the project's measurements found it fastest: no lease file, no DNS, addresses known beforehand."""
    hosts = folder / "hosts"
    hosts.write_text("".join(f"{mean.mac},{address(index)}\n" for index, mean in enumerate(means)))
    log = folder / "dnsmasq.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--port=0"),
            *("--bind-dynamic", f"--interface={_BRIDGE}", "--except-interface=lo", "--leasefile-ro", "--quiet-dhcp"),
            *("--dhcp-range=10.77.0.0,static,255.255.0.0,1h", f"--dhcp-hostsfile={hosts}", "--dhcp-authoritative"),
            *("--dhcp-lease-max=65535", "--no-ping", "--user=root", f"--pid-file={folder / 'dnsmasq.pid'}"),
            f"--dhcp-option=option:classless-static-route,{_METADATA}/32,{_GATEWAY},0.0.0.0/0,{_GATEWAY}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    await asyncio.sleep(0.2)
    if process.returncode is not None:
        raise Transient(f"dnsmasq does not start: {log.read_text()}")
    return process


_Answerer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _answer(means: Sequence[Means]) -> _Answerer:
    """A metadata service that knows who asks by the address, and no more than a guest needs to go on."""
    by_address = {address(index): mean for index, mean in enumerate(means)}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            async with asyncio.timeout(10):
                request = await reader.readuntil(b"\r\n\r\n")
                mean = by_address.get(writer.get_extra_info("peername")[0])
                known = mean is not None and b" /openstack/latest/meta_data.json " in request
                body = msgspec.json.encode({"uuid": mean.uuid, "hostname": mean.name} if mean and known else {})
                status = "200 OK" if known else "404 Not Found"
                head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
        writer.close()

    return answer


async def _end(hand: Hand, dhcp: asyncio.subprocess.Process) -> None:
    await hand.clear()
    with contextlib.suppress(ProcessLookupError):
        dhcp.kill()
    await dhcp.wait()
    with contextlib.suppress(Transient):
        await _ip([f"link delete {_BRIDGE}"])


async def _ip(lines: list[str]) -> None:
    await _run("ip", "-batch", "-", said="\n".join(lines))


async def _run(*command: str, said: str = "") -> None:
    """Raises Transient, with what the command said, when it fails."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE if said else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(_COMMAND_S):
            out, _ = await process.communicate(said.encode() or None)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        raise
    if process.returncode:
        raise Transient(f"{command[0]}: {out.decode(errors='replace').strip()}")


def _result(
    records: list[ServerRecord], samples: list[Sample], end_s: float, at_once: int, started_at: str
) -> ServersResult:
    options = ServersOptions(count=len(records), max_alive=at_once if at_once < len(records) else None)
    return ServersResult(
        options=options,
        environment=Environment(
            cloud="by hand",
            region=None,
            compute_url="",
            image_id="",
            flavor_id="",
            network_id="",
            started_at=started_at,
            client_cpus=os.cpu_count() or 1,
        ),
        figures=figures(records, options),
        faults=faults(records),
        traffic=Traffic({}, {}, {}, 0, 0),
        polling=Polling(0, 0, 0.0, 0.0),
        shared_addresses=[],
        leftovers=[],
        kept=[],
        duration_s=end_s,
        client_cpu_s=0.0,
        samples=samples,
        servers=records,
    )
