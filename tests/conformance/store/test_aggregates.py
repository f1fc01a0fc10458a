"""Statements on aggregates; an agent that starts again leaves its host in the aggregate's zone."""

import pytest
from sqlalchemy import select

from muster.domain.aggregates import NewAggregate
from muster.store import aggregates as store
from muster.store.engine import Violation
from muster.store.hosts import hosts

from .compute_cloud import add_hosts


async def zones(connection) -> dict[str, str]:
    rows = await connection.execute(select(hosts.c.id, hosts.c.availability_zone))
    return {row[0]: row[1] for row in rows}


async def test_aggregates_and_the_zones_of_their_hosts(database):
    async with database.write() as connection:
        await add_hosts(connection, "b", "a", "c", availability_zone="own")
        first = await store.insert_aggregate(connection, NewAggregate(uuid="1", name="x"), 1.0)
        second = await store.insert_aggregate(connection, NewAggregate(uuid="2", name="y", availability_zone="z"), 1.0)
        for host_id in "ba":
            await store.add_host(connection, first, host_id)
        await store.add_host(connection, second, "b")
        await store.apply_zones(connection, ["a", "b", "c"])
        assert await zones(connection) == {"a": "own", "b": "z", "c": "own"}
        found = await store.read(connection, lock=True)
        assert [(one.name, one.hostnames) for one in found] == [("x", ("a", "b")), ("y", ("b",))]
        [one] = await store.read(connection, second)
        assert (one.uuid, one.availability_zone, one.metadata, one.updated_at) == ("2", "z", {}, None)
        assert await store.read(connection, second + 1) == []

        await add_hosts(connection, "b", now=2.0, availability_zone="moved")  # its agent has started again
        await store.apply_zones(connection, ["b"])
        assert (await zones(connection))["b"] == "z"
        assert await store.remove_host(connection, second, "b")
        assert not await store.remove_host(connection, second, "b")
        await store.apply_zones(connection, ["b"])
        assert (await zones(connection))["b"] == "moved"

        await store.write(connection, first, {"name": "w", "metadata": {"k": "v"}, "updated_at": 3.0})
        await store.remove(connection, second)
        [left] = await store.read(connection)
        assert (left.name, left.metadata, left.updated_at) == ("w", {"k": "v"}, 3.0)


async def test_what_is_taken_is_a_violation(database):
    async with database.write() as connection:
        await add_hosts(connection, "a")
        number = await store.insert_aggregate(connection, NewAggregate(uuid="1", name="x"), 1.0)
        await store.add_host(connection, number, "a")
    with pytest.raises(Violation):
        async with database.write() as connection:
            await store.insert_aggregate(connection, NewAggregate(uuid="2", name="x"), 1.0)
    with pytest.raises(Violation):
        async with database.write() as connection:
            await store.add_host(connection, number, "a")
