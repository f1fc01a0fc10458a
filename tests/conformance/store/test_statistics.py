"""PostgreSQL looks again at tables that grew fast, and at no others."""

import asyncio
import time

from sqlalchemy import text, update

from muster.services.statistics import Statistics
from muster.store.engine import Database
from muster.store.hosts import hosts

from .compute_cloud import add_hosts


async def grow(database: Database, kind: str, count: int) -> None:
    async with database.write() as connection:
        names = (f"{kind}{number}" for number in range(count))
        await add_hosts(connection, *names, now=time.time(), firewall=False)


async def refreshed(statistics: Statistics) -> list[str]:
    """What is refreshed in the end: the database counts what was committed a moment later."""
    async with asyncio.timeout(300):
        while not (found := await statistics.refresh()):
            await asyncio.sleep(0.1)
    return found


async def test_a_table_that_grew_is_looked_at_again(database: Database) -> None:
    statistics = Statistics(database)
    assert await statistics.refresh() == [], "small tables are left alone"
    if not database.is_sqlite:
        async with database.write() as connection:  # nobody else looks at it
            await connection.execute(text("ALTER TABLE hosts SET (autovacuum_enabled = off)"))
    await grow(database, "h", 1_100)
    if database.is_sqlite:
        assert await statistics.refresh() == []
        return
    assert await refreshed(statistics) == ["hosts"]
    assert await statistics.refresh() == []
    async with database.write() as connection:
        await connection.execute(update(hosts).values(last_seen_at=2.0))
    await grow(database, "few", 100)
    await asyncio.sleep(1.1)  # until this is counted
    assert await statistics.refresh() == [], "heartbeats change rows, and a few more are the same to a planner"
    await grow(database, "more", 600)
    assert await refreshed(statistics) == ["hosts"]
