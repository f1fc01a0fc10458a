"""What hosts hear of the other hosts of their networks: all when they become one of them, then who joins and leaves.

What they make of it is always what the database says.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import UNSET
from sqlalchemy import delete

from muster.base.ids import new_uuid
from muster.bus.memory import MemoryBus
from muster.domain.messages import Desired
from muster.domain.network_listing import ListQuery
from muster.domain.port_changes import PortChanges
from muster.domain.ports import NewPort
from muster.domain.servers import Server, Verb, WantedNic
from muster.domain.subnets import NewSubnet, SubnetChanges
from muster.host.desired import DesiredState
from muster.store.network_members import network_member_changes

from .loop import PROJECT, Ear, Loop, a_loop


class Host(Ear):
    """A host that keeps what it hears as an agent does."""

    def __init__(self, loop: Loop, name: str, host_ip: str, *, firewall: bool = True) -> None:
        super().__init__(loop, name, firewall=firewall, host_ip=host_ip)
        self.desired = DesiredState()

    async def learn(self) -> list[Desired]:
        heard = [message for message in await self.hear() if isinstance(message, Desired)]
        for message in heard:
            self.desired.apply(message)
        return heard

    def members(self) -> list[str]:
        return sorted(self.desired.networks.specs[self.loop.network_id].members)


class World:
    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.a, self.b, self.c = (Host(loop, name, f"192.0.2.{n}") for n, name in enumerate("abc", 1))
        self.alone = Host(loop, "alone", "127.0.0.1")
        self.sim = Host(loop, "sim", "192.0.2.99", firewall=False)
        self.hosts = (self.a, self.b, self.c, self.alone, self.sim)

    async def gone(self, server: Server) -> None:
        """The server is deleted, and its host says that nothing of it is left."""
        await self.loop.ask(server.id, Verb.DELETE)
        [found] = [one for one in await self.loop.servers() if one.id == server.id]
        await self.loop.compute.orders.finish_all([found])

    async def truth(self) -> dict[str, str]:
        """Addresses of the members of the network by hostname, from its ports."""
        ports = await self.loop.network.ports.page(self.loop.context, ListQuery(limit=1_000))
        bound = {port.binding_host_id for port in ports if port.network_id == self.loop.network_id}
        return {host.name: host.host_ip for host in (self.a, self.b, self.c) if host.name in bound}

    async def check(self) -> None:
        """Every member knows all members, and nobody waits for anything."""
        for host in self.hosts:
            await host.learn()
            assert not host.desired.behind
        truth = await self.truth()
        for host in (self.a, self.b, self.c):
            if host.name in truth:
                assert host.members() == sorted(truth.values())


@asynccontextmanager
async def a_world(folder: Path, bus: MemoryBus | None = None) -> AsyncIterator[World]:
    async with a_loop(folder, bus) as loop:
        world = World(loop)
        for host in world.hosts:
            await host.say_hello()
        await world.check()
        yield world


def steps(messages: list[Desired]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    return [(step.joined, step.left) for message in messages for step in message.peers]


async def test_the_first_port_on_a_host_is_told_to_the_others_and_the_last_too(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        loop, a, b = world.loop, world.a, world.b
        await loop.create("a")
        await world.check()
        assert a.members() == [a.host_ip]
        first = await loop.create("b")
        [to_a], [to_b] = await a.learn(), await b.learn()
        assert steps([to_a]) == [((b.host_ip,), ())]
        assert to_a.networks == ()
        assert steps([to_b]) == []
        assert [network.members for network in to_b.networks] == [(a.host_ip, b.host_ip)]
        second = await loop.create("b")
        assert steps(await a.learn()) == []
        [to_b] = await b.learn()
        assert [network.member_generation for network in to_b.networks] == [-1]
        await world.gone(first)
        assert steps(await a.learn()) == []
        await world.gone(second)
        assert steps(await a.learn()) == [((), (b.host_ip,))]
        await world.check()
        assert a.members() == [a.host_ip]


async def test_hosts_that_come_at_once_are_one_change(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        loop, a = world.loop, world.a
        await loop.create("a")
        await world.check()
        drafts = [loop.draft(zone) for zone in "abcabcbcbc"]
        await loop.compute.creation.create(drafts)
        [to_a] = await a.learn()
        assert steps([to_a]) == [((world.b.host_ip, world.c.host_ip), ())]
        await world.check()


async def test_what_a_host_hears_does_not_grow_with_the_servers_there(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        loop, a = world.loop, world.a

        async def bytes_of_one() -> int:
            await world.check()
            before = a.bytes
            server = await loop.create("b")
            await world.check()
            await world.gone(server)
            await world.check()
            return a.bytes - before

        await loop.create("a")
        few = await bytes_of_one()
        await loop.compute.creation.create([loop.draft("c") for _ in range(60)])
        assert await bytes_of_one() <= few + 16
        before = a.bytes
        await loop.compute.creation.create([loop.draft("c") for _ in range(60)])
        await world.check()
        assert a.bytes - before < 60 * 100  # members of the group, and nothing of tunnels


async def test_a_host_without_tunnels_is_no_member_and_hears_of_none(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        for zone in ("a", "alone", "sim"):
            await world.loop.create(zone)
        for host in (world.alone, world.sim):
            heard = await host.learn()
            assert heard
            assert all(network.members == () for message in heard for network in message.networks)
            assert steps(heard) == []
            await host.say_hello()
            [heard] = await host.learn()
            assert all(network.members == () for network in heard.networks)
        await world.check()
        assert world.a.members() == [world.a.host_ip]


async def test_a_host_that_comes_again_is_told_all_anew(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        loop, a = world.loop, world.a
        server = await loop.create("a")
        await loop.create("b")
        await world.check()
        await world.gone(server)
        await world.check()
        await loop.create("c")
        assert steps(await a.learn()) == []
        await loop.create("a")
        await world.check()
        assert len(a.members()) == 3


async def test_a_changed_address_is_told_to_all_members(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        loop, a, b = world.loop, world.a, world.b
        for zone in "ab":
            await loop.create(zone)
        await world.check()
        old, b.host_ip = b.host_ip, "192.0.2.77"
        await b.say_hello()
        assert steps(await a.learn()) == [(("192.0.2.77",), (old,))]
        await world.check()
        # The same again is no news.
        await b.say_hello()
        assert steps(await a.learn()) == []
        b.host_ip = "127.0.0.1"
        await b.say_hello()
        assert steps(await a.learn()) == [((), ("192.0.2.77",))]
        b.host_ip = "192.0.2.78"
        await b.say_hello()
        await world.check()
        assert a.members() == [a.host_ip, "192.0.2.78"]


async def test_ports_that_are_bound_moved_and_unbound(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        loop, ports = world.loop, world.loop.network.ports
        await loop.create("a")
        draft = NewPort(id=new_uuid(), project_id=PROJECT, network_id=loop.network_id)
        port = await ports.create(loop.context, draft)
        await world.check()
        server = await loop.create("b", nics=(WantedNic(port_id=port.id),))
        await world.check()
        assert len(world.a.members()) == 2
        await world.gone(server)  # the port stays, and is nobody's
        await world.check()
        assert len(world.a.members()) == 1
        for hostname, count in (("b", 2), ("c", 2), ("nobody", 1), ("b", 2)):
            await ports.update(loop.context, port.id, PortChanges(binding_host_id=hostname))
            await world.check()
            assert len(world.a.members()) == count
        await ports.delete(loop.context, port.id)
        await world.check()
        assert len(world.a.members()) == 1


async def test_a_lost_change_is_seen_and_everything_sets_it_right(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        loop, a = world.loop, world.a
        await loop.create("a")
        await world.check()
        await loop.create("b")
        await a.hear()  # lost
        await loop.create("c")
        await a.learn()
        assert a.desired.behind
        await a.say_hello()
        await world.check()
        assert len(a.members()) == 3


async def test_a_change_that_is_not_logged_any_more_is_sent_as_everything(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.loop.create("a")
        await world.check()
        await world.loop.create("b")
        async with world.loop.database.write() as connection:
            await connection.execute(delete(network_member_changes))
        assert (await world.a.learn())[-1].everything
        await world.check()


async def test_a_network_that_is_gone_before_its_last_change_was_told_makes_no_noise(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        loop = world.loop
        servers = [await loop.create(zone) for zone in "ab"]
        await world.check()
        for server in reversed(servers):
            await world.gone(server)
        await loop.network.networks.delete(loop.context, loop.network_id)
        assert not any(message.everything for message in await world.a.learn())


async def test_a_host_hears_of_a_subnet_that_went_and_of_one_that_came_after_it(tmp_path: Path) -> None:
    """A deleted subnet took the count of its changes along: the network then seemed older than what its hosts knew, and
    they went on serving the old subnet, and did not serve the new one."""
    async with a_loop(tmp_path) as loop:
        host = Host(loop, "a", "192.0.2.1")
        await host.say_hello()
        await loop.create("a")
        subnets = loop.network.subnets

        async def cidrs() -> set[str]:
            await host.learn()
            return {subnet.cidr for subnet in host.desired.networks.specs[loop.network_id].subnets}

        def draft(cidr: str) -> NewSubnet:
            return NewSubnet(
                id=new_uuid(),
                project_id=PROJECT,
                network_id=loop.network_id,
                ip_version=4,
                cidr=cidr,
                enable_dhcp=True,
                allocation_pools=UNSET,
            )

        assert await cidrs() == {"10.0.0.0/16"}
        [second] = await subnets.create(loop.context, [draft("10.1.0.0/24")])
        for number in range(3):
            await subnets.update(loop.context, second.id, SubnetChanges(dns_nameservers=(f"10.9.9.{number}",)))
        assert await cidrs() == {"10.0.0.0/16", "10.1.0.0/24"}
        await subnets.delete(loop.context, second.id)
        assert await cidrs() == {"10.0.0.0/16"}
        await subnets.create(loop.context, [draft("10.2.0.0/24")])
        assert await cidrs() == {"10.0.0.0/16", "10.2.0.0/24"}
