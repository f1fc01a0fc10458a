"""Hosts with few and with many ports, each in a network namespace of its own: what one change costs, and one packet.

A process of its own, since it leaves the machine's network for good. Everything goes through `LinuxPlumbing`, as the
agent calls it. Packets are written into one guest's tap and read from another's, so each crosses all rules.
"""

import asyncio
import contextlib
import os
import sys
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from msgspec import structs
from prometheus_client import Counter as PromCounter

from benchmarks.apart import leave_network
from benchmarks.frames import mac_bytes, udp_frame
from muster.base.metrics import NETLINK_SENDS, NFT_TRANSACTIONS
from muster.domain.specs import FixedIp, NetworkSpec, PortSpec, RuleSpec, SecurityGroupSpec, SubnetSpec
from muster.host.names import tap_name
from muster.host.namespace import enter
from muster.host.network import LinuxPlumbing, NetworkSettings
from muster.host.network.taps import open_taps
from muster.host.ports import PlumbedPort

_GROUP, _REMOTE = (str(uuid.UUID(int=number)) for number in (1, 2))
_BUILD = "all ports in one batch"
_HEADER = bytes(10)
_PACKETS_AT_ONCE = 100  # a tap queues 500


class Order(msgspec.Struct, frozen=True):
    """Numbers of ports, a host for each; how often each change is made; packets sent through each host."""

    ports: tuple[int, ...]
    times: int
    packets: int


class Cost(msgspec.Struct):
    """What one change cost each time, in seconds and CPU seconds; in all: transactions, sends, processes started."""

    change: str
    wall_s: list[float] = []
    cpu_s: list[float] = []
    transactions: float = 0
    sends: float = 0
    processes: int = 0


class Level(msgspec.Struct, frozen=True):
    """What was found with so many ports. `built`: all of them at once; `packet_s`: CPU seconds per packet, by path."""

    ports: int
    built: Cost
    costs: list[Cost]
    packet_s: dict[str, list[float]]


class Host:
    """A host of `ports` ports in a network namespace of its own. Two groups: the ports', and one that it lets in."""

    def __init__(self, order: Order, folder: Path, ports: int) -> None:
        leave_network()
        self._place = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._order = order
        self._plumbing = LinuxPlumbing(NetworkSettings(state_dir=folder))
        subnet = SubnetSpec(id="s", ip_version=4, cidr="10.80.0.0/16", dhcp_address="10.80.0.2", gateway_ip="10.80.0.1")
        self._network = NetworkSpec(id=str(uuid.uuid4()), generation=1, segment_id=1, mtu=1450, subnets=(subnet,))
        self._rules = (
            RuleSpec(id="out", direction="egress", ethertype="IPv4"),
            RuleSpec(id="udp", direction="ingress", ethertype="IPv4", protocol="udp", port_min=9, port_max=9),
            RuleSpec(id="in", direction="ingress", ethertype="IPv4", protocol="tcp", remote_group_id=_REMOTE),
        )
        self._group = SecurityGroupSpec(id=_GROUP, generation=1, rules=self._rules)
        self._number = 0
        self._ports = [self._port() for _ in range(ports)]
        self._extra = self._port()
        members = tuple(item.port.fixed_ips[0].ip_address for item in self._ports)
        self._remote = SecurityGroupSpec(id=_REMOTE, generation=1, members=members)
        self.changes: dict[str, Callable[[], Awaitable[None]]] = {
            _BUILD: self._build,
            "add a port: links": lambda: self._plumbing.links([self._network], [self._extra]),
            "add a port: firewall": lambda: self._plumbing.firewall([self._extra], []),
            "add a port: DHCP": lambda: self._plumbing.dhcp([], [self._extra]),
            "remove a port": self._removal,
            "change a rule": self._another_rule,
            "a member joins a remote group": self._join,
        }
        self.costs = {change: Cost(change) for change in self.changes}

    async def _build(self) -> None:
        """All ports, in one batch. Threads of the plumbing start here, in this host's network."""
        await self._plumbing.links([self._network], self._ports)
        await self._plumbing.firewall(self._ports, [self._group, self._remote])
        await self._plumbing.dhcp([self._network], self._ports)

    async def once(self, change: str, started: Counter[str]) -> None:
        """Make a change once, and note what it cost."""
        cost, counted = self.costs[change], (*_counts(), started.total())
        began, used = time.monotonic(), time.process_time()
        await self.changes[change]()
        cost.wall_s.append(time.monotonic() - began)
        cost.cpu_s.append(time.process_time() - used)
        transactions, sends = _counts()
        cost.transactions += transactions - counted[0]
        cost.sends += sends - counted[1]
        cost.processes += started.total() - counted[2]

    def level(self) -> Level:
        """What was found."""
        built, *costs = self.costs.values()
        return Level(len(self._ports), built, costs, self._packets())

    async def close(self) -> None:
        """Nothing of it is left."""
        await self._plumbing.teardown()
        await self._plumbing.close()
        os.close(self._place)

    async def _removal(self) -> None:
        await self._plumbing.unplug([self._extra.port.id])
        self._extra = self._port()

    async def _another_rule(self) -> None:
        number = self._group.generation + 1
        rule = RuleSpec(id="new", direction="ingress", ethertype="IPv4", protocol="tcp", port_min=number)
        self._group = structs.replace(self._group, generation=number, rules=(*self._rules, rule))
        await self._plumbing.firewall([], [self._group])

    async def _join(self) -> None:
        number = self._remote.generation + 1
        members = (*self._remote.members, f"10.90.{number >> 8 & 255}.{number & 255}")
        self._remote = structs.replace(self._remote, generation=number, members=members)
        await self._plumbing.firewall([], [self._remote])

    def _packets(self) -> dict[str, list[float]]:
        """CPU seconds per packet from the first guest to the last, of a flow that is allowed and of one that is not."""
        sender, receiver = self._ports[0].port, self._ports[-1].port
        enter(Path(f"/proc/self/fd/{self._place}"))
        with open_taps([tap_name(sender.id), tap_name(receiver.id)], None) as (into, out):
            os.set_blocking(out, False)
            time.sleep(0.5)  # until the bridge has seen that both are open
            # A bridge copies what is for a MAC that it never heard to all ports.
            os.write(out, _HEADER + _datagram(receiver, sender, 9))
            return {
                "allowed": self._flow(into, out, _HEADER + _datagram(sender, receiver, 9), arrives=True),
                "refused": self._flow(into, out, _HEADER + _datagram(sender, receiver, 10), arrives=False),
            }

    def _flow(self, into: int, out: int, frame: bytes, *, arrives: bool) -> list[float]:
        found = []
        for _ in range(self._order.packets // _PACKETS_AT_ONCE):
            began, heard = time.process_time(), 0
            for _ in range(_PACKETS_AT_ONCE):
                os.write(into, frame)
            with contextlib.suppress(BlockingIOError):
                while True:
                    heard += os.read(out, 2048)[10:] == frame[10:]
            found.append((time.process_time() - began) / _PACKETS_AT_ONCE)
            if heard != arrives * _PACKETS_AT_ONCE:
                raise AssertionError(f"{heard} of {_PACKETS_AT_ONCE} packets went through")
        return found

    def _port(self) -> PlumbedPort:
        self._number += 1
        high, low = divmod(self._number, 250)
        spec = PortSpec(
            id=str(uuid.uuid4()),
            network_id=self._network.id,
            mac_address=f"fa:16:3e:00:{high:02x}:{low:02x}",
            fixed_ips=(FixedIp("s", f"10.80.{high + 1}.{low + 1}"),),
            security_group_ids=(_GROUP,),
        )
        return PlumbedPort(server_id=str(uuid.uuid4()), hostname="guest", port=spec)


def _datagram(sender: PortSpec, receiver: PortSpec, number: int) -> bytes:
    return udp_frame(
        (mac_bytes(receiver.mac_address), mac_bytes(sender.mac_address)),
        (sender.fixed_ips[0].ip_address, receiver.fixed_ips[0].ip_address),
        (5_000, number),
        bytes(64),
    )


def _counts() -> tuple[float, float]:
    """nft transactions and netlink sends so far."""
    return _value(NFT_TRANSACTIONS), _value(NETLINK_SENDS)


def _value(counter: PromCounter) -> float:
    [metric] = counter.collect()
    return metric.samples[0].value


async def measure(order: Order, folder: Path) -> list[Level]:
    """A host per number of ports, all at once, each change made at each in turn: a busy moment hits all the same."""
    started: Counter[str] = Counter()
    sys.addaudithook(lambda event, _: started.update([event] if event in _STARTS else []))
    async with contextlib.AsyncExitStack() as stack:
        hosts = []
        for ports in order.ports:
            hosts.append(Host(order, folder / f"{ports}", ports))
            stack.push_async_callback(hosts[-1].close)
            await hosts[-1].once(_BUILD, started)
        for _ in range(order.times):
            for change in list(hosts[0].changes)[1:]:
                for host in hosts:
                    await host.once(change, started)
        return [host.level() for host in hosts]


_STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "os.exec"}

if __name__ == "__main__":
    wanted, place = msgspec.json.decode(sys.argv[1], type=Order), Path(sys.argv[2])
    (place / "measured.json").write_bytes(msgspec.json.encode(asyncio.run(measure(wanted, place))))
