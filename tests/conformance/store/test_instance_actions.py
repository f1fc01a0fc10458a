"""What was asked of servers is kept for a while, then forgotten in batches, but for their creation."""

import math

import pytest
from sqlalchemy import select

from muster.domain.instance_actions import InstanceAction
from muster.services import instance_actions, purging
from muster.services.instance_actions import OldActions
from muster.store import instance_actions as store
from muster.store.engine import Database

KEEP_S = 100.0
NOW_S = 1_000.0
LONG_AGO_S = NOW_S - KEEP_S - 1


def action(name: str, *, began: float = 1.0, ended: float | None = 1.0) -> InstanceAction:
    return InstanceAction(
        server_id="s",
        action=name,
        request_id="r",
        user_id="u",
        project_id="p",
        started_at=began,
        updated_at=began if ended is None else ended,
        finished_at=ended,
    )


async def fill(database: Database, *actions: InstanceAction) -> None:
    async with database.write() as connection:
        await store.insert(connection, actions)


async def left(database: Database) -> list[str]:
    columns = store.instance_actions.c
    async with database.read() as connection:
        return list((await connection.execute(select(columns.action).order_by(columns.id))).scalars())


async def test_what_ended_long_ago_goes_and_nothing_else(database):
    await fill(
        database,
        action("create"),
        action("stop", ended=LONG_AGO_S),
        action("start", ended=NOW_S - KEEP_S + 1),
        action("reboot", ended=None),
        action("delete", began=NOW_S, ended=NOW_S),
    )
    old = OldActions(database, lambda: NOW_S, KEEP_S)
    assert await old.purge() == 1
    assert await old.purge() == 0
    assert await OldActions(database, lambda: math.inf, math.inf).purge() == 0
    assert await left(database) == ["create", "start", "reboot", "delete"]


async def test_many_go_in_batches_and_what_is_young_is_not_looked_at(database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(instance_actions, "BATCH", 3)
    monkeypatch.setattr(instance_actions, "_READ", 5)
    monkeypatch.setattr(purging, "PAUSE_S", 0)
    young = [action("young", began=NOW_S, ended=NOW_S) for _ in range(20)]
    await fill(database, action("create"), *(action("old") for _ in range(11)), *young)
    sizes, looked = [], []
    remove, read_due = store.remove, store.read_due

    async def removing(connection, action_ids) -> int:
        sizes.append(len(action_ids))
        return await remove(connection, action_ids)

    async def reading(connection, **asked) -> tuple[list[int], int | None]:
        looked.append(asked["after"])
        return await read_due(connection, **asked)

    monkeypatch.setattr(store, "remove", removing)
    monkeypatch.setattr(store, "read_due", reading)
    assert await OldActions(database, lambda: NOW_S, KEEP_S).purge() == 11
    assert (sizes, looked) == ([3, 1, 3, 2, 2], [0, 5, 10])
    assert await left(database) == ["create"] + ["young"] * 20


async def test_all_that_there_is_may_go(database):
    assert await OldActions(database, lambda: NOW_S, KEEP_S).purge() == 0
    await fill(database, *(action("old") for _ in range(4)))
    assert await OldActions(database, lambda: NOW_S, KEEP_S).purge() == 4
    assert await left(database) == []
