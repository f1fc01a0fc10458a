"""A host with many guests' ports in a network namespace of its own, measured: DHCP exchanges, renewals, pings.

A process of its own, since it leaves the machine's network for good. The guests are played by another one
(`dhcp_clients`). As Muster's agent makes bridges, taps, rules and DHCP servers; and by hand: the same dnsmasq with the
same entries and options, but without log, rules and agent.
"""

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import StrEnum
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

import msgspec

from benchmarks.apart import leave_network
from benchmarks.dhcp_clients import Work
from benchmarks.frames import Seat, checksum
from benchmarks.process import cpu_s
from muster.base.errors import Transient
from muster.domain.specs import FixedIp, NetworkSpec, PortSpec, RuleSpec, SecurityGroupSpec, SubnetSpec
from muster.host.names import bridge_name, tap_name
from muster.host.network import LinuxPlumbing, NetworkSettings
from muster.host.network.dnsmasq_config import ServerFiles, config_text, host_lines, hosts_text
from muster.host.network.links import bridge_mac
from muster.host.ports import PlumbedPort

_SO_BINDTODEVICE = 25
_PINGS_AT_ONCE = 50
CIDR, SERVER = "10.80.0.0/16", "10.80.0.2"
_FIRST = IPv4Address("10.80.1.0")
_GROUP = str(uuid.UUID(int=1))


class Way(StrEnum):
    """Who makes the host's network."""

    AGENT = "Muster's agent"
    HAND = "by hand"  # bridges as they are
    APART = "by hand, isolated ports"  # no guest hears another, so that no broadcast is copied


class Order(msgspec.Struct, frozen=True):
    """What is asked of the process. `window`: how many guests wait for an answer at a time; `at_once`: then all do."""

    way: Way
    networks: int
    guests: int
    window: int
    at_once: bool


class Phase(msgspec.Struct, frozen=True):
    """Guests' work, and the CPU seconds that the DHCP servers and this process (the agent) spent meanwhile."""

    work: Work
    servers_cpu_s: float
    agent_cpu_s: float


class Measured(msgspec.Struct, frozen=True):
    """What came of an order. `made_s`: seconds by step until all is served; `pinged`: guests that answered."""

    made_s: dict[str, float]
    lease: Phase
    renew: Phase
    at_once: Phase | None
    pinged: int
    ping_s: float
    seen: int


class Ground(msgspec.Struct, frozen=True):
    """Networks and their ports, all with the same subnet: the harder case for several servers in one namespace."""

    networks: list[NetworkSpec]
    ports: list[PlumbedPort]

    def seats(self) -> list[Seat]:
        """The guests' places, one of each network in turn."""
        return [
            Seat(
                network=item.port.network_id,
                tap=tap_name(item.port.id),
                mac=item.port.mac_address,
                address=item.port.fixed_ips[0].ip_address,
                server=SERVER,
                server_mac=bridge_mac(item.port.network_id),
            )
            for item in self.ports
        ]


def ground(networks: int, guests: int) -> Ground:
    """So many networks with so many guests each."""
    nets = []
    for number in range(networks):
        subnet = SubnetSpec(id=f"subnet-{number}", ip_version=4, cidr=CIDR, dhcp_address=SERVER, gateway_ip="10.80.0.1")
        nets.append(NetworkSpec(id=str(uuid.uuid4()), generation=1, segment_id=number + 1, mtu=1450, subnets=(subnet,)))
    ports = []
    for guest in range(guests):
        for number, net in enumerate(nets):
            spec = PortSpec(
                id=str(uuid.uuid4()),
                network_id=net.id,
                mac_address=f"fa:16:3e:{number:02x}:{guest >> 8:02x}:{guest & 255:02x}",
                fixed_ips=(FixedIp(net.subnets[0].id, str(_FIRST + guest)),),
                security_group_ids=(_GROUP,),
            )
            ports.append(PlumbedPort(server_id=str(uuid.uuid4()), hostname=f"guest-{guest}", port=spec))
    return Ground(nets, ports)


@asynccontextmanager
async def as_agent(where: Ground, folder: Path, made_s: dict[str, float], seen: list[int]) -> AsyncIterator[None]:
    """Everything as the host agent does it, in its order; what the leases' log tells is counted in `seen`."""
    plumbing = LinuxPlumbing(NetworkSettings(state_dir=folder))
    rules = (RuleSpec(id="1", direction="egress", ethertype="IPv4"), _ping())
    group = SecurityGroupSpec(id=_GROUP, generation=1, rules=rules)

    async def count() -> None:
        async for _ in plumbing.leases():
            seen[0] += 1

    counting = asyncio.create_task(count())
    try:
        with _timed(made_s, "links"):
            await plumbing.links(where.networks, where.ports)
        with _timed(made_s, "firewall"):
            await plumbing.firewall(where.ports, [group])
        with _timed(made_s, "DHCP, until served"):
            await plumbing.dhcp(where.networks, where.ports)
        yield
    finally:
        await plumbing.teardown()
        await plumbing.close()
        counting.cancel()


@asynccontextmanager
async def by_hand(
    where: Ground, folder: Path, made_s: dict[str, float], _: list[int], *, apart: bool = False
) -> AsyncIterator[None]:
    """Bridges and taps by iproute2, dnsmasq without a log, no rules."""
    servers: list[subprocess.Popen[bytes]] = []
    try:
        with _timed(made_s, "links"):
            _ip_batch(where, apart=apart)
        with _timed(made_s, "DHCP, until served"):
            servers += [_dnsmasq(net, where, folder) for net in where.networks]
            for net in where.networks:
                await _until((folder / "dhcp" / net.id / "pid").exists)
        yield
    finally:
        for server in servers:
            server.terminate()
            server.wait(10)


WAYS: dict[Way, Callable[..., AbstractAsyncContextManager[None]]] = {
    Way.AGENT: as_agent,
    Way.HAND: by_hand,
    Way.APART: partial(by_hand, apart=True),
}


async def measure(order: Order, folder: Path) -> Measured:
    """Carry out an order. Raises Transient when the guests' process fails."""
    where = ground(order.networks, order.guests)
    made_s: dict[str, float] = {}
    seats, seen = where.seats(), [0]
    async with WAYS[order.way](where, folder / "state", made_s, seen):
        (folder / "seats").write_bytes(msgspec.json.encode(seats))
        guests = await _start_guests(folder / "seats")
        try:
            await _until(lambda: _joined() >= len(seats))
            servers = [int((folder / "state" / "dhcp" / net.id / "pid").read_text()) for net in where.networks]
            lease = await _phase(guests, servers, f"lease {order.window}")
            renew = await _phase(guests, servers, f"renew {order.window}")
            began = time.monotonic()
            pinged = await asyncio.to_thread(_ping_all, where)
            ping_s = time.monotonic() - began
            at_once = await _phase(guests, servers, f"lease {len(seats)}") if order.at_once else None
        finally:
            if guests.stdin is not None:
                guests.stdin.close()
            await guests.wait()
    return Measured(
        made_s=made_s, lease=lease, renew=renew, at_once=at_once, pinged=pinged, ping_s=ping_s, seen=seen[0]
    )


def _ping() -> RuleSpec:
    return RuleSpec(id="2", direction="ingress", ethertype="IPv4", protocol="icmp")


async def _start_guests(seats: Path) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.dhcp_clients", str(seats)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    await _line(process)
    return process


async def _line(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 120)
    if not line:
        raise Transient("the process that plays the guests has ended")
    return line


async def _phase(guests: asyncio.subprocess.Process, servers: Sequence[int], command: str) -> Phase:
    assert guests.stdin is not None
    before, agent = sum(map(cpu_s, servers)), time.process_time()
    guests.stdin.write(command.encode() + b"\n")
    work = msgspec.json.decode(await _line(guests), type=Work)
    return Phase(work, sum(map(cpu_s, servers)) - before, time.process_time() - agent)


def _ping_all(where: Ground) -> int:
    """How many guests answer a ping from their host, at most fifty asked at a time."""
    pinged = 0
    for net in where.networks:
        addresses = [item.port.fixed_ips[0].ip_address for item in where.ports if item.port.network_id == net.id]
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
            raw.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, bridge_name(net.id).encode())
            raw.settimeout(2)
            pinged += _ping_network(raw, addresses)
    return pinged


def _ping_network(raw: socket.socket, addresses: Sequence[str]) -> int:
    body = b"\x08\x00\x00\x00\x4d\x55\x00\x01" + bytes(56)
    body = body[:2] + checksum(body).to_bytes(2, "big") + body[4:]
    unasked, open_, answered = iter(addresses), 0, set[str]()
    with contextlib.suppress(TimeoutError):
        while len(answered) < len(addresses):
            while open_ < _PINGS_AT_ONCE and (address := next(unasked, None)) is not None:
                raw.sendto(body, (address, 0))
                open_ += 1
            data, (sender, _) = raw.recvfrom(2048)
            if data[20] == 0 and sender not in answered:
                answered.add(sender)
                open_ -= 1
    return len(answered & set(addresses))


def _ip_batch(where: Ground, *, apart: bool) -> None:
    lines = []
    for net in where.networks:
        bridge = bridge_name(net.id)
        lines.append(f"link add {bridge} address {bridge_mac(net.id)} type bridge mcast_snooping 0")
        lines += [f"link set {bridge} mtu {net.mtu} up", f"addr add {SERVER}/16 dev {bridge}"]
    for item in where.ports:
        tap = tap_name(item.port.id)
        lines.append(f"tuntap add dev {tap} mode tap vnet_hdr")
        lines.append(f"link set {tap} mtu 1450 master {bridge_name(item.port.network_id)} addrgenmode none up")
        if apart:
            lines.append(f"link set {tap} type bridge_slave isolated on")
    text = "".join(f"{line}\n" for line in lines).encode()
    subprocess.run(["/usr/sbin/ip", "-batch", "-"], input=text, check=True, timeout=120)


def _dnsmasq(net: NetworkSpec, where: Ground, folder: Path) -> subprocess.Popen[bytes]:
    files = ServerFiles(folder / "dhcp" / net.id)
    files.hosts.mkdir(parents=True)
    text = config_text(net, files, NetworkSettings(state_dir=folder))
    unlogged = [line for line in text.splitlines() if not line.startswith("log-")]
    files.config.write_text("\n".join((*unlogged, "quiet-dhcp", "log-facility=/dev/null", "keep-in-foreground", "")))
    entries = {item.port.id: host_lines(item, net) for item in where.ports if item.port.network_id == net.id}
    (files.hosts / "0").write_text(hosts_text(entries))
    return subprocess.Popen(["dnsmasq", f"--conf-file={files.config}"])


def _joined() -> int:
    """Taps over which their bridge forwards; it sees a moment late that they were opened."""
    done = subprocess.run(["/usr/sbin/ip", "-o", "-d", "link", "show"], capture_output=True, check=True, timeout=60)
    return done.stdout.count(b"state forwarding")


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - a file of another process
            await asyncio.sleep(0.005)


@contextlib.contextmanager
def _timed(into: dict[str, float], what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    into[what] = time.monotonic() - began


def main(order: Order, folder: Path) -> None:
    """Leave the machine's network, carry out the order, write what was measured into its folder."""
    leave_network()
    (folder / "measured.json").write_bytes(msgspec.json.encode(asyncio.run(measure(order, folder))))


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Order), Path(sys.argv[2]))
