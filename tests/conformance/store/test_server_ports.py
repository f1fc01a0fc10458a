"""Ports that are there already become servers' interfaces, many in one statement."""

from muster.base.ids import new_uuid
from muster.domain.networks import NewNetwork
from muster.domain.ports import NewPort
from muster.store import ports as port_store
from muster.store import server_ports as store
from muster.store.server_ports import WantedBinding

from .network_cloud import MEMBER, network_cloud


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
