"""Ports that are there already become servers' interfaces, many in one statement."""

from muster.base.ids import new_uuid
from muster.domain.networks import NewNetwork
from muster.domain.ports import NewPort, WantedIp
from muster.domain.subnets import NewSubnet
from muster.store import ports as port_store
from muster.store import server_ports as store
from muster.store.server_ports import WantedBinding

from .compute_cloud import add_server
from .network_cloud import ADMIN, MEMBER, network_cloud


async def test_those_that_are_free_are_bound_and_of_two_the_first_gets_one(database, tmp_path):
    async with network_cloud(database, tmp_path) as cloud:
        [network] = await cloud.networks.create(MEMBER, [NewNetwork(id=new_uuid(), project_id="p1", name="n")])

        async def port(device_id: str = "") -> str:
            draft = NewPort(id=new_uuid(), project_id="p1", network_id=network.id, device_id=device_id)
            return (await cloud.ports.create(MEMBER, draft)).id

        free, other, busy = await port(), await port(), await port("somebody")
        wanted = [
            WantedBinding(free, "s1", "host-a", 0),
            WantedBinding(busy, "s1", "host-a", 1),
            WantedBinding(free, "s2", "host-b", 0),
            WantedBinding(other, "s2", "host-b", 3),
        ]
        async with database.write() as connection:
            assert await store.bind(connection, wanted, 9.0) == {(free, "s1"), (other, "s2")}
            assert await store.bind(connection, wanted, 9.0) == set()
        table = port_store.ports
        async with database.read() as connection:
            columns = (table.c.id, table.c.device_id, table.c.device_position, table.c.binding_host_id)
            rows = (await connection.execute(table.select().with_only_columns(*columns))).all()
        assert {tuple(row)[:2] for row in rows} == {(free, "s1"), (other, "s2"), (busy, "somebody")}
        found = {row.id: (row.device_position, row.binding_host_id) for row in rows}
        assert (found[free], found[other]) == ((0, "host-a"), (3, "host-b"))


async def test_a_port_that_only_says_to_be_a_servers_does_not_follow_its_state(database, tmp_path):
    """Anybody may write any device's id into a port of another project."""
    async with database.write() as connection:
        await add_server(connection, "s1", project_id="p1")
    async with network_cloud(database, tmp_path) as cloud:
        [network] = await cloud.networks.create(ADMIN, [NewNetwork(id=new_uuid(), project_id="p1", shared=True)])

        async def port(project_id: str) -> str:
            draft = NewPort(id=new_uuid(), project_id=project_id, network_id=network.id, device_id="s1")
            return (await cloud.ports.create(ADMIN, draft)).id

        its, posing = await port("p1"), await port("p2")
        async with database.write() as connection:
            await store.set_status(connection, ["s1"], "ACTIVE")
            assert await store.read_owners(connection, [its, posing]) == {its: "s1"}
        found = {port_id: (await cloud.ports.get(ADMIN, port_id)).status for port_id in (its, posing)}
        assert found == {its: "ACTIVE", posing: "DOWN"}


async def test_the_servers_of_a_subnet_are_those_that_have_its_addresses(database, tmp_path):
    async with database.write() as connection:
        await add_server(connection, "s1", project_id="p1")
        await add_server(connection, "s2", project_id="p2")
    async with network_cloud(database, tmp_path) as cloud:
        [network] = await cloud.networks.create(ADMIN, [NewNetwork(id=new_uuid(), project_id="p1", shared=True)])
        values = {"project_id": "p1", "network_id": network.id, "ip_version": 4, "enable_dhcp": False}
        drafts = [NewSubnet(id=new_uuid(), cidr=f"10.0.{index}.0/24", **values) for index in range(2)]
        used, unused = [subnet.id for subnet in await cloud.subnets.create(ADMIN, drafts)]
        for device_id in ("s1", "s2"):  # the second is another project's server
            wanted = (WantedIp(subnet_id=used),)
            draft = NewPort(
                id=new_uuid(), project_id="p1", network_id=network.id, device_id=device_id, fixed_ips=wanted
            )
            await cloud.ports.create(ADMIN, draft)
        async with database.read() as connection:
            assert await store.read_servers_in_subnet(connection, used) == {"s1"}
            assert await store.read_servers_in_subnet(connection, unused) == set()
