"""On SQLite a statement is one trip to its connection's thread, and a transaction begins with its first statement."""

import asyncio
import gc
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import aiosqlite
import pytest
from sqlalchemy import text

from muster.store import usages
from muster.store.engine import Database
from muster.store.sqlite_trips import opened
from tests.databases import make_tables


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/muster.db")
    await make_tables(database)
    for transaction in (database.read, database.write):  # connections are made ready once
        async with transaction() as connection:
            await connection.execute(text("SELECT 1"))
    yield database
    await database.close()


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was sent to connections' threads."""
    sent: list[str] = []
    send = aiosqlite.Connection._execute

    async def noted(self, work, *arguments, **named):
        sent.append(work.__name__)
        return await send(self, work, *arguments, **named)

    monkeypatch.setattr(aiosqlite.Connection, "_execute", noted)
    return sent


async def test_reading_costs_a_trip_per_statement_and_its_end_is_not_waited_for(
    sqlite: Database, trips: list[str]
) -> None:
    async with sqlite.read() as connection:
        for _ in range(3):
            assert (await connection.execute(text("SELECT 7 UNION SELECT 8"))).scalars().all() == [7, 8]
        assert (await _driver(connection))._connection.in_transaction
        driver = await _driver(connection)
    assert trips == ["trip", "trip", "trip"]
    async with asyncio.timeout(300):
        while driver._connection.in_transaction:
            await asyncio.sleep(0.001)


async def test_writing_costs_a_trip_per_statement_and_one_for_the_commit(sqlite: Database, trips: list[str]) -> None:
    async with sqlite.write() as connection:
        await usages.add(connection, {("p", "r"): 1})
    assert trips == ["trip", "commit"]


async def test_a_transaction_that_asks_nothing_costs_none(sqlite: Database, trips: list[str]) -> None:
    async with sqlite.read():
        pass
    async with sqlite.write():
        pass
    with pytest.raises(RuntimeError):
        async with sqlite.write():
            raise RuntimeError("before anything was asked")
    assert trips == []
    async with sqlite.write() as connection:  # and none of them is still there
        await usages.add(connection, {("p", "r"): 1})


async def test_a_result_is_whole(sqlite: Database) -> None:
    async with sqlite.write() as connection:
        made = await connection.exec_driver_sql("CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT)")
        assert not made.returns_rows
        many = await connection.exec_driver_sql("INSERT INTO things (name) VALUES (?)", [("a",), ("b",), ("c",)])
        assert many.rowcount == 3
        one = await connection.exec_driver_sql("INSERT INTO things (name) VALUES (?)", ("d",))
        assert (one.lastrowid, one.rowcount) == (4, 1)
        changed = await connection.exec_driver_sql("UPDATE things SET name = 'x' WHERE id > 2 RETURNING id")
        assert changed.rowcount == 2, "counted when all rows are there"
        assert changed.scalars().all() == [3, 4]
        nobody = await connection.exec_driver_sql("SELECT id, name FROM things WHERE id > 9")
        assert (list(nobody.keys()), nobody.all()) == (["id", "name"], [])


async def test_a_picture_begins_with_the_first_statement(sqlite: Database) -> None:
    """Who only reads sees what was committed before its first statement, and nothing later."""
    async with sqlite.read() as connection:
        async with sqlite.write() as writing:
            await usages.add(writing, {("p", "before"): 1})
        seen = [await _count(connection)]
        async with sqlite.write() as writing:
            await usages.add(writing, {("p", "after"): 1})
        seen.append(await _count(connection))
    assert seen == [1, 1]


async def test_who_writes_holds_others_off_from_the_first_statement_on(sqlite: Database, tmp_path: Path) -> None:
    """Also when that only reads: what is decided by it is still true at the commit."""
    async with sqlite.write() as connection:
        await _count(connection)
        with sqlite3.connect(tmp_path / "muster.db", timeout=0.0) as other, pytest.raises(sqlite3.OperationalError):
            other.execute("DELETE FROM usages")
        other.close()


async def test_a_forgotten_connection_holds_up_no_exit(tmp_path: Path) -> None:
    connection = await opened(str(tmp_path / "forgotten.db"))
    assert connection._thread.daemon
    await connection.close()


async def test_who_is_cancelled_leaves_no_lock(sqlite: Database, tmp_path: Path) -> None:
    """What its thread was asked for goes on to its end, and keeps nothing."""
    loop, began, goes_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def lasts() -> None:
        loop.call_soon_threadsafe(began.set)
        goes_on.wait(300)

    async def long() -> None:
        async with sqlite.write() as connection:
            await usages.add(connection, {("p", "r"): 1})
            await (await _driver(connection)).create_function("lasts", 0, lasts)
            await connection.execute(text("SELECT lasts()"))

    task = asyncio.create_task(long())
    await began.wait()
    task.cancel()
    loop.call_later(0.1, goes_on.set)
    [error] = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(error, asyncio.CancelledError)
    gc.disable()  # nothing is to depend on it
    try:
        with sqlite3.connect(tmp_path / "muster.db", timeout=300.0) as other:
            other.execute("DELETE FROM usages")
        other.close()
    finally:
        gc.enable()
    async with sqlite.read() as connection:
        assert await _count(connection) == 0


async def _driver(connection):
    return (await connection.get_raw_connection()).driver_connection


async def _count(connection) -> int:
    return int((await connection.execute(text("SELECT count(*) FROM usages"))).scalar_one())
