"""A host with more and more ports in a network namespace of its own: what one change costs, and one packet.

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
from muster.host.network import LinuxPlumbing, NetworkSettings
from muster.host.network.taps import open_taps
from muster.host.ports import PlumbedPort

_GROUP, _REMOTE = (str(uuid.UUID(int=number)) for number in (1, 2))
_HEADER = bytes(10)
_PACKETS_AT_ONCE = 100  # a tap queues 500


class Order(msgspec.Struct, frozen=True):
    """Numbers of ports in their order; how often each change is made; packets sent at each number."""

    ports: tuple[int, ...]
    times: int
    packets: int


class Cost(msgspec.Struct, frozen=True):
    """What one change cost each time: seconds, CPU seconds; and altogether transactions, sends, processes started."""

    change: str
    wall_s: list[float]
    cpu_s: list[float]
    transactions: float
    sends: float
    processes: int


class Level(msgspec.Struct, frozen=True):
    """What was found with so many ports. `packet_s`: CPU seconds per packet, by path."""

    ports: int
    costs: list[Cost]
    packet_s: dict[str, list[float]]


class Host:
    """A network, its ports, and two groups: all are members of one, and let another's members in."""

    def __init__(self, order: Order, folder: Path) -> None:
        self._order = order
        self._plumbing = LinuxPlumbing(NetworkSettings(state_dir=folder / "state"))
        subnet = SubnetSpec(id="s", ip_version=4, cidr="10.80.0.0/16", dhcp_address="10.80.0.2", gateway_ip="10.80.0.1")
        self._network = NetworkSpec(id=str(uuid.uuid4()), generation=1, segment_id=1, mtu=1450, subnets=(subnet,))
        self._rules = (
            RuleSpec(id="out", direction="egress", ethertype="IPv4"),
            RuleSpec(id="udp", direction="ingress", ethertype="IPv4", protocol="udp", port_min=9, port_max=9),
            RuleSpec(id="in", direction="ingress", ethertype="IPv4", protocol="tcp", remote_group_id=_REMOTE),
        )
        self._group = SecurityGroupSpec(id=_GROUP, generation=1, rules=self._rules)
        self._remote = SecurityGroupSpec(id=_REMOTE, generation=1)
        self._ports: list[PlumbedPort] = []
        self._number = 0
        self.started: Counter[str] = Counter()

    async def measure(self) -> list[Level]:
        """Everything, level by level."""
        try:
            return [await self._level(count) for count in self._order.ports]
        finally:
            await self._plumbing.teardown()
            await self._plumbing.close()

    async def _level(self, count: int) -> Level:
        await self._grow(count)
        costs = [await self._port_costs(), await self._removal(), await self._rule_change(), await self._member()]
        return Level(count, [cost for group in costs for cost in group], self._packets())

    async def _grow(self, count: int) -> None:
        """To so many ports, in one batch; members of the remote group grow as well."""
        gone, self._ports = self._ports[count:], self._ports[:count]
        if gone:
            await self._plumbing.unplug([item.port.id for item in gone])
        new = [self._port() for _ in range(count - len(self._ports))]
        self._ports += new
        members = tuple(item.port.fixed_ips[0].ip_address for item in self._ports)
        self._remote = structs.replace(self._remote, generation=self._remote.generation + 1, members=members)
        await self._plumbing.links([self._network], new)
        await self._plumbing.firewall(new, [self._group, self._remote])
        await self._plumbing.dhcp([self._network], new)

    async def _port_costs(self) -> list[Cost]:
        """A port more, step by step; each stays until the removal."""
        self._extra = [self._port() for _ in range(self._order.times)]
        waiting = {what: iter(self._extra) for what in ("links", "firewall", "dhcp")}
        return [
            await self._cost(
                "add a port: links", lambda: self._plumbing.links([self._network], [next(waiting["links"])])
            ),
            await self._cost("add a port: firewall", lambda: self._plumbing.firewall([next(waiting["firewall"])], [])),
            await self._cost("add a port: DHCP", lambda: self._plumbing.dhcp([], [next(waiting["dhcp"])])),
        ]

    async def _removal(self) -> list[Cost]:
        going = iter(self._extra)
        return [await self._cost("remove a port", lambda: self._plumbing.unplug([next(going).port.id]))]

    async def _rule_change(self) -> list[Cost]:
        async def change() -> None:
            number = self._group.generation + 1
            rule = RuleSpec(id="new", direction="ingress", ethertype="IPv4", protocol="tcp", port_min=number)
            self._group = structs.replace(self._group, generation=number, rules=(*self._rules, rule))
            await self._plumbing.firewall([], [self._group])

        return [await self._cost("change a rule", change)]

    async def _member(self) -> list[Cost]:
        async def join() -> None:
            number = self._remote.generation + 1
            members = (*self._remote.members, f"10.90.{number >> 8 & 255}.{number & 255}")
            self._remote = structs.replace(self._remote, generation=number, members=members)
            await self._plumbing.firewall([], [self._remote])

        return [await self._cost("a member joins a remote group", join)]

    async def _cost(self, change: str, action: Callable[[], Awaitable[None]]) -> Cost:
        wall, cpu = [], []
        counted = _counts()
        self.started.clear()
        for _ in range(self._order.times):
            began, used = time.monotonic(), time.process_time()
            await action()
            wall.append(time.monotonic() - began)
            cpu.append(time.process_time() - used)
        transactions, sends = (after - before for after, before in zip(_counts(), counted, strict=True))
        times = self._order.times
        return Cost(change, wall, cpu, transactions / times, sends / times, self.started.total())

    def _packets(self) -> dict[str, list[float]]:
        """CPU seconds per packet from the first guest to the last, of a flow that is allowed and of one that is not."""
        sender, receiver = self._ports[0].port, self._ports[-1].port
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


def main(order: Order, folder: Path) -> None:
    """Leave the machine's network, carry out the order, write what was measured into its folder."""
    leave_network()

    async def work() -> list[Level]:
        host = Host(order, folder)
        sys.addaudithook(lambda event, _: host.started.update([event] if event in _STARTS else []))
        return await host.measure()

    (folder / "measured.json").write_bytes(msgspec.json.encode(asyncio.run(work())))


_STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "os.exec"}

if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Order), Path(sys.argv[2]))
