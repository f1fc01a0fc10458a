"""A transaction that is cancelled, at whatever moment, leaves nothing or everything, and the database usable."""

import asyncio
from itertools import count

import pytest
from sqlalchemy import func, select

from muster.store import usages
from muster.store.engine import Database

ROWS = 3
TURNS = 60


async def _write(database: Database, project_id: str) -> None:
    async with database.write() as connection:
        for number in range(ROWS):
            await usages.add(connection, {(project_id, f"r{number}"): 1})


async def _count(database: Database, project_id: str) -> int:
    async with database.read() as connection:
        mine = select(func.count()).select_from(usages.usages).where(usages.usages.c.project_id == project_id)
        return (await connection.execute(mine)).scalar_one()


async def test_at_any_moment_it_is_all_or_nothing(database):
    seen = set()
    errors = []  # kept: whoever holds an error holds what the transaction was in the middle of
    for turn in count():
        if turn >= TURNS and seen == {0, ROWS}:  # on a busy machine the whole takes longer
            break
        project_id = f"p{turn}"
        task = asyncio.create_task(_write(database, project_id))
        for _ in range(turn * 2):
            if task.done():
                break
            await asyncio.sleep(0 if turn % 2 else 0.0003)
        task.cancel()
        errors += await asyncio.gather(task, return_exceptions=True)
        async with asyncio.timeout(300):
            written = await _count(database, project_id)
            assert written in (0, ROWS)
            await _write(database, f"after {turn}")  # nothing is left locked
        seen.add(written)


async def test_cancelled_while_another_writes(database):
    """Those who wait for their turn and leave take no turn with them."""
    async with database.write() as connection:
        await usages.add(connection, {("p", "r"): 1})
        waiting = [asyncio.create_task(_write(database, "q")) for _ in range(3)]
        await asyncio.sleep(0.01)
        for task in waiting[:2]:
            task.cancel()
        await asyncio.sleep(0.01)
    await asyncio.gather(*waiting, return_exceptions=True)
    async with asyncio.timeout(300):
        await _write(database, "z")
    assert await _count(database, "z") == ROWS


async def test_one_that_fails_leaves_nothing(database):
    async def fail() -> None:
        async with database.write() as connection:
            await usages.add(connection, {("p", "r"): 1})
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        await fail()
    assert await _count(database, "p") == 0
