"""Deleted servers are kept for a while, then forgotten in batches; those that are there stay, on both databases."""

import math

import pytest
from sqlalchemy import func, select

from muster.domain.instance_actions import InstanceAction
from muster.services import deleted_servers, purging
from muster.services.deleted_servers import DeletedServers
from muster.store import deleted_servers as store
from muster.store import instance_actions, servers
from muster.store.engine import Database

from .compute_cloud import add_server

KEEP_S = 100.0
NOW_S = 1_000.0


def action(server_id: str) -> InstanceAction:
    values = dict.fromkeys(InstanceAction.__struct_fields__) | {"started_at": 1.0, "updated_at": 1.0}
    texts = dict.fromkeys(("action", "request_id", "user_id", "project_id"), "x")
    return InstanceAction(**{**values, **texts, "server_id": server_id})


async def fill(database: Database, **deleted_at: float | None) -> None:
    async with database.write() as connection:
        for server_id, moment in deleted_at.items():
            await add_server(connection, server_id, deleted_at=moment, updated_at=moment or 1.0)
            await servers.set_tags(connection, server_id, ["t"])
        await instance_actions.insert(connection, [action(server_id) for server_id in deleted_at])


async def left(database: Database) -> list[set[str]]:
    """Whose rows there are: of servers, of actions, of tags."""
    columns = (servers.servers.c.id, instance_actions.instance_actions.c.server_id, servers.server_tags.c.server_id)
    async with database.read() as connection:
        return [set((await connection.execute(select(column))).scalars()) for column in columns]


async def test_what_was_deleted_long_ago_goes_with_all_of_it_and_nothing_else(database):
    await fill(database, there=None, long_ago=NOW_S - KEEP_S - 1, just_now=NOW_S - KEEP_S + 1)
    purge = DeletedServers(database, lambda: NOW_S, KEEP_S)
    assert await purge.purge() == 1
    assert await left(database) == [{"there", "just_now"}] * 3
    assert await purge.purge() == 0
    assert await DeletedServers(database, lambda: math.inf, math.inf).purge() == 0
    assert await left(database) == [{"there", "just_now"}] * 3


async def test_many_go_in_batches(database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(deleted_servers, "BATCH", 3)
    monkeypatch.setattr(deleted_servers, "_READ", 6)
    monkeypatch.setattr(purging, "PAUSE_S", 0)
    await fill(database, there=None, **{f"s{number}": 1.0 for number in range(20)})
    sizes: list[int] = []
    whole = store.remove

    async def remove(connection, server_ids) -> int:
        sizes.append(len(server_ids))
        return await whole(connection, server_ids)

    monkeypatch.setattr(store, "remove", remove)
    assert await DeletedServers(database, lambda: NOW_S, KEEP_S).purge() == 20
    assert sizes == [3] * 6 + [2]
    assert await left(database) == [{"there"}] * 3


async def test_who_is_not_deleted_is_not_removed_whatever_was_read(database):
    await fill(database, there=None, gone=1.0)
    async with database.write() as connection:
        assert await store.remove(connection, ["there", "gone", "never"]) == 1
        assert (await connection.execute(select(func.count()).select_from(servers.servers))).scalar() == 1
    assert await left(database) == [{"there"}] * 3
