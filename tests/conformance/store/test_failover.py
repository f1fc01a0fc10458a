"""The server that takes writes dies, and its standby takes its place: a delay, and each change made once."""

import asyncio
import signal
from collections.abc import Iterator

import pytest

from benchmarks.free_ports import free_port
from muster.services.redecide import redeciding
from muster.store import usages
from muster.store.engine import Database
from tests.databases import make_tables
from tests.engines.fixtures import folder
from tests.engines.postgres import PATIENT, Postgres

HANG_S = 300.0
CHANGES = 60


@pytest.fixture
def pair() -> Iterator[tuple[Postgres, Postgres]]:
    """A primary and its standby. What the primary commits, the standby has."""
    with folder("primary") as there, folder("standby") as here:
        primary, standby = Postgres(there, free_port()), Postgres(here, free_port())
        try:
            primary.start()
            standby.follow(primary)
            yield primary, standby
        finally:
            standby.close()
            primary.close()


async def test_the_standby_takes_over_in_the_middle_of_changes(pair: tuple[Postgres, Postgres]) -> None:
    primary, standby = pair
    outside = await primary.connect("postgres")
    await outside.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    await outside.execute("SELECT pg_reload_conf()")
    await outside.close()
    url = await primary.create_database()
    # The standby is named first: it answers, and takes no writes.
    database = Database(url.replace(f":{primary.port}/", f":{standby.port},127.0.0.1:{primary.port}/") + f"?{PATIENT}")
    await make_tables(database)

    async def change() -> None:
        async with database.write() as connection:
            await usages.add(connection, {("p", "port"): 1})

    async def some_changes(count: int) -> None:
        for _ in range(count):
            await redeciding("test", change)

    async with asyncio.timeout(HANG_S):
        changing = [asyncio.create_task(some_changes(CHANGES // 4)) for _ in range(4)]
        await asyncio.sleep(0.05)
        await asyncio.to_thread(primary.end, signal.SIGKILL)
        promoting = await standby.connect("postgres")
        await promoting.execute("SELECT pg_promote()")
        await promoting.close()
        await asyncio.gather(*changing)
        async with database.read() as connection:
            assert await usages.read(connection, ["p"]) == {("p", "port"): CHANGES}
    await database.close()
