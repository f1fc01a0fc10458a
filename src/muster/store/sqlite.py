"""Engines of SQLAlchemy for one SQLite file."""

from typing import Any

from sqlalchemy import Connection as SyncConnection
from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from muster.store.json_columns import JSON

# What a connection of SQLite may keep of the file. Each has its own, and behind all of them is the kernel's.
WRITER_CACHE_KIB = 8_192
READER_CACHE_KIB = 2_048


def sqlite_engine(
    url: URL, *, begin: str, pool_size: int, foreign_keys: bool = True, cache_kib: int = READER_CACHE_KIB
) -> AsyncEngine:
    """An engine whose transactions begin with the statement `begin`."""
    engine = create_async_engine(url, pool_size=pool_size, max_overflow=0, pool_timeout=60, **JSON)

    def on_connect(dbapi_connection: Any, _record: object) -> None:
        dbapi_connection.isolation_level = None  # transactions begin where we say, not where the driver guesses
        cursor = dbapi_connection.cursor()
        cursor.execute("PRAGMA busy_timeout=30000")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")  # what was answered 202 survives a power failure
        cursor.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")
        cursor.execute(f"PRAGMA cache_size=-{cache_kib}")
        cursor.close()

    def on_begin(connection: SyncConnection) -> None:
        connection.exec_driver_sql(begin)

    def on_invalidate(dbapi_connection: Any, _record: object, _error: BaseException | None) -> None:
        # Whoever was cancelled in the middle of a statement still has its cursor, and SQLite closes a connection, and
        # lets go of its write lock, with the last of its cursors. That may be long after.
        dbapi_connection.rollback()

    event.listen(engine.sync_engine, "connect", on_connect)
    event.listen(engine.sync_engine, "begin", on_begin)
    event.listen(engine.sync_engine, "invalidate", on_invalidate)
    return engine
