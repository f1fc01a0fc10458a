"""Statements on server groups; placements of members in two transactions at once."""

import asyncio

import pytest

from muster.base.errors import Stale
from muster.domain.server_groups import ServerGroup
from muster.store import server_groups as store

from .compute_cloud import add_hosts, add_server


def group(name: str, project_id: str = "p", **fields: object) -> ServerGroup:
    values = {"policy": "affinity", "created_at": 1.0, **fields}
    return ServerGroup(id=name, project_id=project_id, user_id="u", name=name, **values)


async def test_groups_are_written_read_paged_and_deleted(database):
    async with database.write() as connection:
        for index, name in enumerate("abc"):
            await store.insert_group(connection, group(name, created_at=index, max_per_host=index or None))
        await store.insert_group(connection, group("d", project_id="q"))
        await add_hosts(connection, "h1")
        await add_server(connection, "s1", server_group_id="a", host_id="h1")
        await add_server(connection, "s2", server_group_id="a", host_id="h1")
        await add_server(connection, "s3", server_group_id="a")
        await add_server(connection, "s4", server_group_id="a", host_id="h1", deleted_at=5.0)
    async with database.write() as connection:
        assert [one.id for one in await store.read_page(connection, "p", limit=9)] == ["a", "b", "c"]
        assert [one.id for one in await store.read_page(connection, "p", limit=1, offset=1)] == ["b"]
        assert len(await store.read_page(connection, None, limit=9)) == 4
        found = await store.read(connection, ["b", "a", "none"])
        assert (found["a"].max_per_host, found["b"].max_per_host, len(found)) == (None, 1, 2)
        whole = await store.with_members(connection, [found["b"], found["a"]])
        assert [one.members for one in whole] == [(), ("s1", "s2", "s3")]
        assert await store.count_members(connection, ["a", "b", "none"]) == {"a": {"x": 3}, "b": {}}
        rules = await store.read_rules(connection, ["a", "b"])
        assert (rules["a"].members, rules["a"].policy, rules["b"].members) == ({"h1": 2}, "affinity", {})
        assert await store.remove(connection, "a")
        assert not await store.remove(connection, "a")
        assert await store.count_members(connection, ["a"]) == {}


async def test_of_two_who_place_members_at_once_one_decides_again(database):
    async with database.write() as connection:
        await store.insert_group(connection, group("g"))
    async with database.read() as connection:
        rules = await store.read_rules(connection, ["g"])

    async def place() -> None:
        async with database.write() as connection:
            await store.raise_generations(connection, rules.values())

    outcomes = await asyncio.gather(place(), place(), return_exceptions=True)
    assert sorted(type(outcome) for outcome in outcomes if outcome is not None) == [Stale]
    async with database.write() as connection:
        again = await store.read_rules(connection, ["g"])
        await store.raise_generations(connection, again.values())
        await store.remove(connection, "g")
    with pytest.raises(Stale):
        async with database.write() as connection:
            await store.raise_generations(connection, again.values())
