"""Members of security groups: who is told, what is logged and what the whole list is, on both databases."""

from muster.base.ids import new_uuid
from muster.domain.messages import Hello
from muster.domain.network_listing import ListQuery
from muster.domain.networks import NewNetwork
from muster.domain.placement import Overcommit
from muster.domain.ports import NewPort
from muster.domain.reports import HostCapacity
from muster.domain.specs import AddressPair
from muster.domain.subnets import NewSubnet
from muster.store import group_members as store
from muster.store import hosts as host_store
from muster.store import outbox as outbox_store
from muster.store import security_groups as group_store

from .network_cloud import ADMIN, MEMBER, network_cloud


def hello(host_id: str, *, firewall: bool) -> Hello:
    return Hello(
        host_id=host_id,
        hostname=f"{host_id}-name",
        hypervisor_type="sim",
        hypervisor_version=1,
        capacity=HostCapacity(vcpus=1, ram_mib=1, disk_gib=1),
        firewall=firewall,
    )


async def test_members_are_logged_for_the_hosts_that_name_the_group(database, tmp_path):
    async with network_cloud(database, tmp_path) as cloud:
        [network] = await cloud.networks.create(MEMBER, [NewNetwork(id=new_uuid(), project_id="p1", name="n")])
        subnet = NewSubnet(
            id=new_uuid(), project_id="p1", network_id=network.id, ip_version=4, cidr="10.0.0.0/24", enable_dhcp=False
        )
        await cloud.subnets.create(MEMBER, [subnet])
        async with database.write() as connection:
            hellos = [hello("with", firewall=True), hello("without", firewall=False)]
            await host_store.write_hellos(connection, hellos, Overcommit(), 1.0)

        async def port(host_id: str, **more: object) -> str:
            draft = NewPort(
                id=new_uuid(),
                project_id="p1",
                network_id=network.id,
                device_id=f"server-of-{host_id}",
                binding_host_id=f"{host_id}-name",
                **more,
            )
            return (await cloud.ports.create(ADMIN, draft)).id

        first = await port("with", allowed_address_pairs=(AddressPair("10.0.9.0/24", "fa:16:3e:00:00:01"),))
        await port("without")
        [default] = await cloud.security_groups.page(MEMBER, ListQuery())
        async with database.read() as connection:
            assert await store.read_referring(connection, [default.id]) == {default.id: {default.id}}
            assert await outbox_store.read_hosts_in_groups(connection, [default.id]) == ["with"]
            assert await outbox_store.read_hosts_in_groups(connection, ["other"]) == []
            assert await outbox_store.read_hosts_told(connection, default.id, ["with", "none"]) == {"with"}
            assert await outbox_store.claim(connection)
            notes = await outbox_store.read(connection, 100, 100)
            assert [(note.host_id, note.member_generation) for note in notes] == [("with", 1), ("with", 2)]
            changes = await store.log.read(connection, {default.id: {1, 2}, "other": {1}})
            [members] = (await store.read_members(connection, [default.id])).values()
            logged = [*changes[default.id][1].joined, *changes[default.id][2].joined]
            assert sorted(members) == sorted(logged)
            assert len(members) == 3
            [member] = (await store.read_of_ports(connection, [first, "none"])).values()
            assert sorted(member.addresses) == sorted(changes[default.id][1].joined)
        await port("with")
        await cloud.ports.delete(MEMBER, first)
        async with database.write() as connection:
            changes = await store.log.read(connection, {default.id: {4}})
            assert changes[default.id][4].left == tuple(sorted(member.addresses))
            # A server that waits in a note does not count as told.
            await port_of_waiting(connection)
            assert await store.log.raise_generations(connection, [default.id, "gone"]) == {default.id: 5}
            await store.log.forget(connection, 1e12)
            assert await store.log.read(connection, {default.id: {1, 4}}) == {}
        async with database.read() as connection:
            assert (await group_store.read(connection, [default.id]))[default.id].revision == default.revision
            assert await outbox_store.read_hosts_told(connection, default.id, ["without"]) == set()


async def port_of_waiting(connection) -> None:
    change = outbox_store.Change(host_id="without", server_id="server-of-without")
    await outbox_store.insert(connection, [change], {"without": 1}, 1.0)
