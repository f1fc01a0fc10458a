"""Connections to SQLite of which a statement is one trip to the connection's thread.

SQLAlchemy's adapter asks a driver for a cursor, has it execute, fetch and close: four trips with aiosqlite's own, each
as dear as most of Muster's statements. Here executing fetches and closes as well, and a transaction begins with its
first statement: one that asks nothing costs no trip at all.

Invariant: what is executed on a connection is executed in the order in which it was asked for, also what a cancelled
task has asked for; no cursor outlives its statement, so none keeps a lock.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Self, TypeVar

import aiosqlite

T = TypeVar("T")

_ROWS_AT_A_TIME = 64  # of iterating over a cursor, which nobody does


def opened(database: str, **named: Any) -> "Connection":
    """A connection, once it is awaited; as `aiosqlite.connect`. For SQLAlchemy's `async_creator_fn`."""
    connection = Connection(partial(sqlite3.connect, database, **named), _ROWS_AT_A_TIME)
    connection._thread.daemon = True  # as SQLAlchemy has it: one that was forgotten holds up no exit
    return connection


class Connection(aiosqlite.Connection):
    """One connection and its thread. SQLAlchemy ends transactions more than once: only the first time is a trip."""

    _begin: str | None = None
    _is_open = False

    def begin_with(self, statement: str) -> None:
        """A transaction begins: its first statement is preceded by this one."""
        self._begin = statement

    def cursor(self) -> "Cursor":  # type: ignore[override]
        return Cursor(self)

    async def commit(self) -> None:
        """End the transaction. No trip if nothing was asked in it."""
        self._begin = None
        if self._is_open:
            await super().commit()
            self._is_open = False

    async def rollback(self) -> None:
        """End the transaction. No trip if nothing was asked in it, and none is waited for: what is asked next comes
        behind it. If it fails, so does the next BEGIN."""
        self._begin = None
        if self._is_open:
            self._is_open = False
            self._tx.put_nowait((None, self._conn.rollback))

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The result of `work` in the connection's thread, in the transaction if there is one. One trip."""
        begin, self._begin = self._begin, None

        def trip() -> T:
            connection = self._conn
            if begin is not None:
                connection.execute(begin)
            return work(connection)

        self._is_open |= begin is not None
        result: T = await self._execute(trip)  # type: ignore[no-untyped-call]
        return result


class Cursor:
    """What came of one statement. As a cursor of aiosqlite, as far as SQLAlchemy's adapter needs one."""

    arraysize = 1

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        await self._run(lambda cursor: cursor.execute(statement, values))

    async def executemany(self, statement: str, values: Iterable[Sequence[Any]]) -> None:
        await self._run(lambda cursor: cursor.executemany(statement, values))

    async def fetchall(self) -> list[Any]:
        return self._rows

    async def close(self) -> None:
        """It is closed already."""

    async def _run(self, execute: Callable[[sqlite3.Cursor], object]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            cursor = connection.cursor()
            try:
                execute(cursor)
                self._rows = cursor.fetchall()  # before the number of rows, which only then is that of all
                self.description, self.rowcount, self.lastrowid = cursor.description, cursor.rowcount, cursor.lastrowid
            finally:
                cursor.close()

        await self._connection.run(work)
