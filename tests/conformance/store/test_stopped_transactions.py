"""A process that stands still in the middle of a transaction does not keep the others waiting for ever."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, insert, select, text, update

from muster.base.errors import Transient
from muster.store.engine import Database
from tests.databases import make_tables
from tests.engines.postgres import Postgres

counters = Table("counters", MetaData(), Column("id", Integer, primary_key=True), Column("value", Integer))


@pytest.fixture
async def two(postgres: Postgres) -> AsyncIterator[tuple[Database, Database]]:
    """The same database as two processes see it; the first is taken for stopped after some seconds."""
    url = await postgres.create_database()
    opened = Database(url, stopped_s=4.0), Database(url)
    await make_tables(opened[1])
    async with opened[1].write() as connection:
        await connection.run_sync(counters.metadata.create_all)
        await connection.execute(insert(counters).values(id=1, value=0))
    yield opened
    await asyncio.gather(*(one.close() for one in opened))


async def _raise_to(database: Database, value: int) -> None:
    async with database.write() as connection:
        await connection.execute(update(counters).values(value=value))


async def _ended(other: Database) -> None:
    """Wait until PostgreSQL has ended whoever stood still in a transaction."""
    standing = text("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'")
    async with asyncio.timeout(300):
        while True:
            async with other.read() as connection:
                if not (await connection.execute(standing)).scalar_one():
                    return
            await asyncio.sleep(0.1)


async def test_what_it_has_locked_comes_free_and_what_it_did_is_undone(two: tuple[Database, Database]) -> None:
    stopped, other = two
    has_it, goes_on = asyncio.Event(), asyncio.Event()

    async def two_changes() -> None:
        async with stopped.write() as connection:
            await connection.execute(update(counters).values(value=10))
            has_it.set()
            await goes_on.wait()
            await connection.execute(update(counters).values(value=11))

    standing_still = asyncio.create_task(two_changes())
    async with asyncio.timeout(300):
        await has_it.wait()
        await _raise_to(other, 5)  # it waits for the row, and nobody wakes who has it
    goes_on.set()
    with pytest.raises(Transient):
        await standing_still
    async with other.read() as connection:
        assert (await connection.execute(select(counters.c.value))).scalar_one() == 5
    await _raise_to(stopped, 7)  # with a new connection


async def test_it_hears_of_it_at_the_commit_too(two: tuple[Database, Database]) -> None:
    stopped, other = two

    async def sleep_before_the_commit() -> None:
        async with stopped.write() as connection:
            await connection.execute(update(counters).values(value=10))
            await _ended(other)

    with pytest.raises(Transient):
        await sleep_before_the_commit()
    async with other.read() as connection:
        assert (await connection.execute(select(counters.c.value))).scalar_one() == 0
