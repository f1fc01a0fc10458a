"""Engines of SQLAlchemy for one SQLite file.

Each connection has a cache of its own, in the process's memory, and behind all of them is the kernel's. What a request
touches is spread over indexes that grow with the cloud, so caches grow with the file: a small cloud does not pay for a
large one, and a large one does not read the same pages again and again. Invariant: a connection's cache is what its
`Caching` says of the file's size, at most `_LOOK_EVERY_S` after the last change of that, however long it lives.
"""

import os
import time
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection as SyncConnection
from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from muster.store.json_columns import JSON
from muster.store.sqlite_trips import opened

_LOOK_EVERY_S = 10.0
_CACHE, _LOOK_AT = "muster_cache_kib", "muster_look_at"  # in what SQLAlchemy keeps beside a connection


class Caching(Struct, frozen=True, kw_only=True):
    """How much of the file a connection may keep: a share of it, from `least_kib` to `most_kib`."""

    share: int  # one part of so many
    least_kib: int
    most_kib: int

    def kib(self, file_bytes: int) -> int:
        """For a file of this size; twice as much at each step, so that it changes rarely."""
        wanted = file_bytes // 1024 // self.share
        return max(self.least_kib, min(self.most_kib, 1 << wanted.bit_length()))


def log_pages(cache_kib: int) -> int:
    """How many pages the log has before a commit writes them back into the file: a quarter of the cache, at least
    SQLite's own 1,000.

    A page is written back once however often it was changed since. In a large cloud each batch of creations changes
    thousands, many of them those of the batch before.
    """
    return max(1_000, cache_kib // 16)  # of 4 KiB each


# A batch of creations changes a page of each index per server; a page of a listing reads as many.
WRITER = Caching(share=4, least_kib=4_096, most_kib=65_536)
READER = Caching(share=16, least_kib=1_024, most_kib=16_384)


def sqlite_engine(
    url: URL, *, begin: str, pool_size: int, foreign_keys: bool = True, caching: Caching = READER
) -> AsyncEngine:
    """An engine whose transactions begin with the statement `begin`."""
    pool = {"pool_size": pool_size, "max_overflow": 0, "pool_timeout": 60}
    # The connection that was used last: its statements are prepared, its pages and its thread's are in caches.
    engine = create_async_engine(url, pool_use_lifo=True, connect_args={"async_creator_fn": opened}, **pool, **JSON)
    file = url.database or ""

    def on_connect(dbapi_connection: Any, _record: object) -> None:
        dbapi_connection.isolation_level = None  # transactions begin where we say, not where the driver guesses
        cursor = dbapi_connection.cursor()
        cursor.execute("PRAGMA busy_timeout=30000")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")  # what was answered 202 survives a power failure
        cursor.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")
        cursor.close()

    def on_begin(connection: SyncConnection) -> None:
        _fit_cache(connection, file, caching)
        connection.connection.driver_connection.begin_with(begin)  # type: ignore[union-attr]

    event.listen(engine.sync_engine, "connect", on_connect)
    event.listen(engine.sync_engine, "begin", on_begin)
    return engine


def _fit_cache(connection: SyncConnection, file: str, caching: Caching) -> None:
    """Give the connection the cache and the log that the file's size asks for. A look at the file every so often."""
    now = time.monotonic()
    if now < connection.info.get(_LOOK_AT, 0.0):
        return
    connection.info[_LOOK_AT] = now + _LOOK_EVERY_S
    kib = caching.kib(_bytes_of(file))
    if kib != connection.info.get(_CACHE):
        connection.exec_driver_sql(f"PRAGMA cache_size=-{kib}")
        connection.exec_driver_sql(f"PRAGMA wal_autocheckpoint={log_pages(kib)}")
        connection.info[_CACHE] = kib


def _bytes_of(file: str) -> int:
    try:
        return os.stat(file).st_size
    except OSError:  # none: a database in memory
        return 0
