"""What hosts hear of security groups: whole when they need a group for the first time, then only who joins and leaves,
and what they make of it is always what the database says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import delete

from muster.base.ids import new_uuid
from muster.domain.messages import Desired
from muster.domain.networks import NetworkChanges
from muster.domain.port_changes import PortChanges
from muster.domain.ports import NewPort, WantedIp
from muster.domain.security_groups import NewRule, NewSecurityGroup
from muster.domain.servers import Server, Verb, WantedNic
from muster.domain.specs import AddressPair, Power
from muster.host.desired import DesiredState
from muster.store.group_members import group_member_changes

from .loop import PROJECT, Ear, Loop, a_loop, only_woken


class Host(Ear):
    """A host that keeps what it hears as an agent does."""

    def __init__(self, loop: Loop, name: str, *, firewall: bool = True) -> None:
        super().__init__(loop, name, firewall=firewall)
        self.desired = DesiredState()

    async def learn(self) -> list[Desired]:
        heard = [message for message in await self.hear() if isinstance(message, Desired)]
        for message in heard:
            self.desired.apply(message)
        return heard

    def members(self, group_id: str) -> list[str]:
        return sorted(self.desired.groups.specs[group_id].members)


class World:
    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.a, self.b = Host(loop, "a"), Host(loop, "b")
        self.sim = Host(loop, "sim", firewall=False)
        self.default = ""

    async def gone(self, server: Server) -> None:
        """The server is deleted, and its host says that nothing of it is left."""
        await self.loop.ask(server.id, Verb.DELETE)
        [found] = [one for one in await self.loop.servers() if one.id == server.id]
        assert found.power is Power.ABSENT
        await self.loop.compute.orders.finish_all([found])

    async def truth(self, group_id: str) -> list[str]:
        ports = [port for port in await self._ports() if group_id in port.security_group_ids]
        pairs = [pair.ip_address for port in ports for pair in port.allowed_address_pairs]
        return sorted([ip.ip_address for port in ports for ip in port.fixed_ips] + pairs)

    async def _ports(self):
        from muster.domain.network_listing import ListQuery

        return await self.loop.network.ports.page(self.loop.context, ListQuery(limit=1_000))

    async def check(self) -> None:
        for host in (self.a, self.b, self.sim):
            await host.learn()
        for host in (self.a, self.b):
            assert not host.desired.behind
            assert host.members(self.default) == await self.truth(self.default)


@asynccontextmanager
async def a_world(folder: Path) -> AsyncIterator[World]:
    async with a_loop(folder) as loop:
        world = World(loop)
        for host in (world.a, world.b, world.sim):
            await host.say_hello()
        for zone in "ab":
            await loop.create(zone)
        async with loop.database.write() as connection:
            world.default = (await loop.groups.ensure_default(connection, [PROJECT]))[PROJECT]
        await world.check()
        yield world


async def test_a_host_is_told_a_group_once_and_then_who_joins_and_leaves(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        loop, a, b = world.loop, world.a, world.b
        server = await loop.create("a")
        [to_a], [to_b] = await a.learn(), await b.learn()
        assert (len(to_a.servers), to_a.groups) == (1, ())
        assert (to_b.servers, to_b.groups) == ((), ())
        [change] = to_b.members
        assert (change.id, len(change.joined), change.left) == (world.default, 1, ())
        assert to_a.members == to_b.members
        await world.check()
        await world.gone(server)
        [to_b] = await b.learn()
        assert [(change.joined, len(change.left)) for change in to_b.members] == [((), 1)]
        await world.check()


async def test_changes_of_rules_groups_networks_and_ports_are_published_as_soon_as_they_are_committed(
    tmp_path: Path,
) -> None:
    """Who publishes was not woken by them, and hosts heard up to five seconds later, at its next look."""
    async with a_world(tmp_path) as world, only_woken(world.loop):
        network, context = world.loop.network, world.loop.context

        async def heard(what: str) -> None:
            assert all(isinstance(message, Desired) for message in await world.a.heard()), what

        rule = NewRule(id=new_uuid(), project_id=PROJECT, security_group_id=world.default, direction="ingress")
        await network.security_group_rules.create(context, [rule])
        await heard("a rule was made")
        await network.security_group_rules.delete(context, rule.id)
        await heard("a rule was removed")
        await network.networks.update(context, world.loop.network_id, NetworkChanges(mtu=1_400))
        await heard("a network was changed")
        [port] = [port for port in await world._ports() if port.binding_host_id == "a"]
        await network.ports.update(context, port.id, PortChanges(admin_state_up=False))
        await heard("a port was changed")


async def test_a_batch_is_one_change_for_each_host(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.loop.compute.creation.create([world.loop.draft("a") for _ in range(50)])
        [to_b] = await world.b.learn()
        assert [len(change.joined) for change in to_b.members] == [50]
        await world.check()


async def test_what_a_host_hears_does_not_grow_with_the_members_there(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:

        async def bytes_of_one() -> int:
            await world.check()
            before = world.b.bytes
            await world.loop.create("a")
            await world.check()
            return world.b.bytes - before

        few = await bytes_of_one()
        await world.loop.compute.creation.create([world.loop.draft("a") for _ in range(200)])
        assert await bytes_of_one() <= few + 16


async def test_a_host_without_a_firewall_hears_of_no_group(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.loop.create("sim")
        heard = await world.sim.learn()
        assert [(len(message.servers), message.groups, message.members) for message in heard] == [(1, (), ())]
        await world.sim.say_hello()
        heard = await world.sim.learn()
        assert [(message.everything, message.groups) for message in heard] == [(True, ())]
        await world.check()


async def test_a_host_that_comes_to_a_group_again_is_told_it_anew(tmp_path: Path) -> None:
    """While it had no port in the group, others joined, and it heard nothing."""
    async with a_world(tmp_path) as world:
        [on_b] = [server for server in await world.loop.servers() if server.hostname_of_host == "b"]
        await world.gone(on_b)
        await world.b.learn()
        await world.loop.create("a")
        assert await world.b.learn() == []
        await world.loop.create("b")
        [to_b] = await world.b.learn()
        assert [group.id for group in to_b.groups] == [world.default]
        await world.check()


async def test_changed_ports_change_their_groups(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        loop, ports = world.loop, world.loop.network.ports
        port = await ports.create(loop.context, NewPort(id=new_uuid(), project_id=PROJECT, network_id=loop.network_id))
        await world.check()
        for changes in (
            PortChanges(fixed_ips=(WantedIp(ip_address="10.0.9.9"),)),
            PortChanges(allowed_address_pairs=(AddressPair("10.0.8.0/24", ""), AddressPair("10.0.9.9", ""))),
            PortChanges(allowed_address_pairs=(AddressPair("10.0.8.0/24", ""),)),
            PortChanges(security_group_ids=()),
            PortChanges(security_group_ids=(world.default,)),
        ):
            before = await world.truth(world.default)
            await ports.update(loop.context, port.id, changes)
            assert await world.truth(world.default) != before
            await world.check()
        await ports.delete(loop.context, port.id)
        await world.check()


async def test_an_address_that_two_members_have_goes_with_the_last(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        loop, ports = world.loop, world.loop.network.ports
        shared = AddressPair("10.0.7.7", "")
        made = [
            await ports.create(
                loop.context,
                NewPort(id=new_uuid(), project_id=PROJECT, network_id=loop.network_id, allowed_address_pairs=(shared,)),
            )
            for _ in range(2)
        ]
        await world.check()
        for port, left in zip(made, (1, 0), strict=True):
            await ports.delete(loop.context, port.id)
            await world.check()
            assert world.a.members(world.default).count("10.0.7.7") == left


async def test_only_hosts_with_a_rule_that_names_the_group_hear_of_its_members(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        loop = world.loop
        web, db = [NewSecurityGroup(id=new_uuid(), project_id=PROJECT, name=name) for name in ("web", "db")]
        await loop.groups.create(loop.context, [web, db])
        await loop.create("a", security_group_ids=(db.id,))
        await world.check()
        rule = NewRule(
            id=new_uuid(),
            project_id=PROJECT,
            security_group_id=db.id,
            direction="ingress",
            protocol="tcp",
            remote_group_id=web.id,
        )
        await loop.create("b", security_group_ids=(web.id,))
        assert [message.members for message in await world.a.learn()] == []
        await loop.network.security_group_rules.create(loop.context, [rule])
        [to_a] = await world.a.learn()
        assert {group.id for group in to_a.groups} == {db.id, web.id}
        assert world.a.members(web.id) == await world.truth(web.id)
        server = await loop.create("b", security_group_ids=(web.id,))
        [to_a] = await world.a.learn()
        assert [(change.id, len(change.joined)) for change in to_a.members] == [(web.id, 1)]
        assert all(not message.members for message in await world.b.learn())
        await world.gone(server)
        await world.check()
        assert world.a.members(web.id) == await world.truth(web.id)
        # The rule goes, and with it the interest.
        await loop.network.security_group_rules.delete(loop.context, rule.id)
        [to_a] = await world.a.learn()
        assert [group.id for group in to_a.groups] == [db.id]
        await loop.create("b", security_group_ids=(web.id,))
        assert await world.a.learn() == []


async def test_a_host_that_knew_a_group_by_its_members_alone_hears_of_its_rules_with_its_first_port_in_it(
    tmp_path: Path,
) -> None:
    """It once took the group without rules for the newest: who was in it could neither send nor hear, for good."""
    async with a_world(tmp_path) as world:
        loop, a = world.loop, world.a
        web, db = [NewSecurityGroup(id=new_uuid(), project_id=PROJECT, name=name) for name in ("web", "db")]
        await loop.groups.create(loop.context, [web, db])
        rule = NewRule(
            id=new_uuid(),
            project_id=PROJECT,
            security_group_id=db.id,
            direction="ingress",
            remote_group_id=web.id,
        )
        await loop.network.security_group_rules.create(loop.context, [rule])
        await loop.create("a", security_group_ids=(db.id,))
        await world.check()
        assert a.desired.groups.specs[web.id].rules == ()
        await loop.create("a", security_group_ids=(web.id,))
        await world.check()
        told = a.desired.groups.specs[web.id]
        assert {rule.direction for rule in told.rules} == {"egress"}, "its own, as each group has them"
        await a.say_hello()
        await world.check()
        assert a.desired.groups.specs[web.id] == told


async def test_a_lost_change_is_seen_and_everything_sets_it_right(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.loop.create("a")
        await world.b.hear()  # lost
        await world.loop.create("a")
        await world.b.learn()
        assert world.b.desired.behind
        await world.b.say_hello()
        await world.check()


async def test_a_change_that_is_not_logged_any_more_is_sent_as_everything(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await world.loop.create("a")
        async with world.loop.database.write() as connection:
            await connection.execute(delete(group_member_changes))
        heard = await world.b.learn()
        assert heard[-1].everything
        await world.check()


async def test_a_port_that_moves_a_server_to_a_new_group_brings_the_group(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        loop = world.loop
        group = NewSecurityGroup(id=new_uuid(), project_id=PROJECT, name="new")
        await loop.groups.create(loop.context, [group])
        draft = NewPort(id=new_uuid(), project_id=PROJECT, network_id=loop.network_id)
        port = await loop.network.ports.create(loop.context, draft)
        await loop.create("a", nics=(WantedNic(port_id=port.id),))
        await world.check()
        await loop.network.ports.update(loop.context, port.id, PortChanges(security_group_ids=(group.id,)))
        [to_a] = await world.a.learn()
        assert group.id in {one.id for one in to_a.groups}
        await world.check()


async def test_a_server_that_leaves_and_joins_a_group_changes_its_members(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        server = await world.loop.create("a")
        await world.check()
        before = await world.truth(world.default)
        groups = world.loop.compute.server_security_groups
        for verb, count in ((groups.remove, -1), (groups.add, 1)):
            await verb(world.loop.context, server.id, "default")
            [to_b] = await world.b.learn()
            assert to_b.groups == ()
            assert [len(change.joined) - len(change.left) for change in to_b.members] == [count]
            await world.check()
        assert await world.truth(world.default) == before
