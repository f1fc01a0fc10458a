"""The whole loop, control plane and agents, over a bus that loses, doubles, delays and reorders, with agents that die
and servers that are made, changed and deleted meanwhile: once the bus behaves, both sides say the same.

In real time, since the database has threads of its own; the agents' times are short instead.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import func, select

from muster.base.errors import Conflict, NotFound
from muster.bus.memory import MemoryBus
from muster.domain.reports import GuestState
from muster.domain.server_interfaces import Attach, Detach
from muster.domain.server_lookups import NicAsked
from muster.domain.servers import Server, Verb
from muster.host.agent import AgentSettings, HostIdentity, HostParts
from muster.host.group import HostGroup
from muster.host.hypervisor.sim import SimHypervisor, SimSettings
from muster.services.dispatcher import Dispatcher
from muster.services.host_reports import HostReports
from muster.store.group_members import read_members
from muster.store.hosts import hosts
from muster.store.ports import ports
from tests.host_adapters import MemoryPlumbing

from .loop import CAPACITY, PROJECT, Loop, a_loop

N_HOSTS = 6
ACTIONS = ("create",) * 3 + ("delete", "stop", "start", "reboot", "rebuild", "port", "port", "agent")
TIMES = AgentSettings(
    reconcile_every_s=1.0,
    heartbeat_every_s=0.25,
    hello_first_s=0.2,
    hello_max_s=1.0,
    resync_delay_s=0.1,
    stray_grace_s=1.0,
)


class BadBus(MemoryBus):
    """Until it behaves, a fifth of all messages is lost, some come twice, and many late."""

    def __init__(self, rng: Random) -> None:
        super().__init__()
        self.rng, self.behaves = rng, False
        self.late: set[asyncio.TimerHandle] = set()

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        for message in messages:
            if self.behaves or message[0].startswith("console"):
                await super().publish([message])
                continue
            fate = self.rng.random()
            for _ in range(0 if fate < 0.2 else 2 if fate < 0.35 else 1):
                delay_s = self.rng.uniform(0.0, 0.6) if self.rng.random() < 0.4 else 0.0
                asyncio.get_running_loop().call_later(delay_s, self._put, message)

    def _put(self, message: tuple[str, bytes]) -> None:
        topic = self._topics[message[0]]
        topic.messages.append(message[1])
        topic.changed.set()


class Play:
    """A control plane with some hosts of its own, and users who ask for whatever they like."""

    def __init__(self, loop: Loop, bus: BadBus, rng: Random) -> None:
        self.loop, self.bus, self.rng = loop, bus, rng
        loop.dispatcher = Dispatcher(loop.database, bus, loop.batch.clock, sweep_s=0.3)
        loop.reports = HostReports(loop.database, bus, loop.batch.clock, loop.dispatcher, loop.compute.orders)
        sim = SimSettings(capacity=CAPACITY, boot_s=0.05, dies=0.05, dies_within_s=0.5, keeps_card=0.2)
        self.hypervisors = [SimHypervisor(Random(number), sim) for number in range(N_HOSTS)]
        self.plumbings = [MemoryPlumbing() for _ in range(N_HOSTS)]
        self.group = HostGroup(bus, settings=TIMES, rng=rng)

    def parts(self, number: int) -> HostParts:
        hypervisor = self.hypervisors[number]
        self.plumbings[number].in_use = lambda: set().union(
            *(hypervisor.cards(server_id) or () for server_id in list(hypervisor._guests))
        )
        return HostParts(
            identity=HostIdentity(
                host_id=f"host-{number}",
                hostname=f"host-{number}",
                hypervisor_type="sim",
                firewall=number % 2 == 0,
                host_ip=_address(number),
            ),
            hypervisor=hypervisor,
            plumbing=self.plumbings[number],
            leases=hypervisor.leases(),
        )

    async def act(self) -> None:
        servers = await self.loop.servers()
        kind = self.rng.choice(
            ("create", "create", "create", "delete", "stop", "start", "reboot", "rebuild", "port", "agent")
        )
        if kind == "create":
            await self.loop.compute.creation.create([self.loop.draft() for _ in range(self.rng.choice((1, 3, 20)))])
        elif kind == "agent":
            await self._restart_agent()
        elif servers:
            await self._change(kind, self.rng.choice(servers))

    async def _restart_agent(self) -> None:
        number = self.rng.randrange(N_HOSTS)
        await self.group.stop(f"host-{number}")
        if self.rng.random() < 0.3:
            self.hypervisors[number].reboot_host()
        await self.group.start([self.parts(number)])

    async def _change(self, kind: str, server: Server) -> None:
        try:
            if kind == "port":
                await self._move_port(server)
            else:
                details: dict[str, Any] = {"hard": self.rng.random() < 0.5} if kind == "reboot" else {}
                await self.loop.ask(server.id, Verb(kind), **details)
        except (Conflict, NotFound):
            return  # its state did not allow it, or it has just gone

    async def _move_port(self, server: Server) -> None:
        interfaces, common = self.loop.compute.server_interfaces, {"context": self.loop.context, "request_id": "req-3"}
        if len(server.interfaces) > 1:
            port_id = server.interfaces[-1].port_id
            await interfaces.detach(Detach(server_id=server.id, port_id=port_id, **common))
        else:
            nic = NicAsked(network_id=self.loop.network_id)
            await interfaces.attach(Attach(server_id=server.id, nic=nic, tag=None, **common))

    async def settled(self) -> bool:
        servers = await self.loop.servers()
        return all(server.task_state is None for server in servers) and await self.agree(servers) is None

    async def agree(self, servers: Sequence[Server]) -> str | None:
        """None if hosts and database say the same; else what differs."""
        for number in range(N_HOSTS):
            mine = {server.id: server for server in servers if server.host_id == f"host-{number}"}
            guests = await self.hypervisors[number].observe()
            if guests.keys() != mine.keys():
                return f"host-{number} has other servers than it should"
            for server_id, server in mine.items():
                runs = guests[server_id].state is GuestState.RUNNING
                if (server.status, runs) not in {("ACTIVE", True), ("SHUTOFF", False)}:
                    return f"{server_id} is {server.status}, and runs: {runs}"
                wanted = {interface.port_id for interface in server.interfaces}
                if runs and self.hypervisors[number].cards(server_id) != wanted:
                    return f"{server_id} has other cards than ports"
            plumbing = self.plumbings[number]
            wanted = {interface.port_id for server in mine.values() for interface in server.interfaces}
            if not plumbing.linked == plumbing.ruled == plumbing.served == wanted:
                return f"host-{number} has other ports than it should"
        return await self._members() or self._peers()

    async def _members(self) -> str | None:
        async with self.loop.database.write() as connection:
            default = (await self.loop.groups.ensure_default(connection, [PROJECT]))[PROJECT]
            members = sorted((await read_members(connection, [default])).get(default, []))
        for number in range(0, N_HOSTS, 2):
            if self.plumbings[number].linked:
                groups = self.group.agents[f"host-{number}"].reconciler.desired.groups.specs
                if default not in groups or sorted(groups[default].members) != members:
                    return f"host-{number} has other members of the group than it should"
        return None

    def _peers(self) -> str | None:
        """Hosts with a port of the network know all that have one, and no other knows the network."""
        real = range(0, N_HOSTS, 2)
        peers = {_address(number) for number in real if self.plumbings[number].linked}
        for number in real:
            known = self.group.agents[f"host-{number}"].reconciler.desired.networks.specs
            if not self.plumbings[number].linked:
                if known:
                    return f"host-{number} knows networks that it has no port of"
            elif set(known[self.loop.network_id].members) != peers:
                return f"host-{number} knows other hosts of its network than there are"
            elif self.plumbings[number].members[self.loop.network_id][1] != peers:
                return f"host-{number} has tunnels to other hosts of its network than there are"
        return None


def _address(number: int) -> str:
    return f"192.0.2.{number + 1}"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(2))
async def test_both_sides_end_up_saying_the_same(tmp_path: Path, seed: int) -> None:
    rng = Random(seed)
    bus = BadBus(rng)
    async with a_loop(tmp_path, bus) as loop:
        play = Play(loop, bus, rng)
        tasks = [asyncio.create_task(work) for work in (loop.dispatcher.run(), loop.reports.run())]
        try:
            await play.group.start([play.parts(number) for number in range(N_HOSTS)])

            async def there() -> bool:
                return len(await loop.host_ids()) == N_HOSTS

            await loop.until(there, "hosts that are heard of")
            for _ in range(30):
                await play.act()
                await asyncio.sleep(rng.choice((0.0, 0.0, 0.05, 0.2)))
            bus.behaves = True
            try:
                await loop.until(play.settled, "agreement")
            except AssertionError as error:
                raise AssertionError(f"{error}: {await play.agree(await loop.servers())}") from None
            assert all(plumbing.torn == [] for plumbing in play.plumbings)
            for server in await loop.servers():
                await loop.ask(server.id, Verb.DELETE)

            async def empty() -> bool:
                return await loop.servers() == [] and await play.agree([]) is None

            await loop.until(empty, "an empty cloud")
            async with loop.database.read() as connection:
                assert not (await connection.execute(select(func.sum(hosts.c.ram_used_mib)))).scalar()
                assert (await connection.execute(select(func.count()).select_from(ports))).scalar() == 0
        finally:
            await play.group.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
