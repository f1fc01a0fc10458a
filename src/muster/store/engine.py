"""Connections and transactions.

SQLite has one writer: its write transactions queue here, first come, first served, instead of failing as 'locked'.
PostgreSQL's go side by side. Errors of the drivers leave this module only as errors of `base.errors`.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
from sqlalchemy import Connection as SyncConnection
from sqlalchemy import MetaData, event, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from muster.base.errors import Bug, Conflict, MusterError, Stale, Transient
from muster.base.metrics import TRANSACTION_SECONDS
from muster.store.violations import violated_constraint

# The type of a transaction's handle, for services, which pass it on and run no SQL themselves.
Connection = AsyncConnection

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


# PostgreSQL's serialization_failure and deadlock_detected: the transaction left nothing and may be decided again.
_LOST_TO_ANOTHER = frozenset({"40001", "40P01"})


def _to_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


# A server has half a dozen JSON columns: the standard library's parser was a tenth of what creating one costs.
_JSON = {"json_serializer": _to_json, "json_deserializer": msgspec.json.decode}


# What a connection of SQLite may keep of the file. Each has its own, and behind all of them is the kernel's.
_WRITER_CACHE_KIB = 8_192
_READER_CACHE_KIB = 2_048


class Violation(Conflict):
    """A constraint refused a write; `constraint` is its name, the same on every database."""

    code = "store.violation"

    def __init__(self, constraint: str) -> None:
        super().__init__(f"The database refused the change: {constraint}")
        self.constraint = constraint


class Database:
    """A database by its URL: `sqlite:///path` or `postgresql://user@host/name`."""

    def __init__(self, url: str, *, stopped_after_s: float = 30.0) -> None:
        """PostgreSQL ends a transaction that does nothing for `stopped_after_s`: its process stands still.

        What it has locked would keep all others waiting for as long as that lasts.
        """
        parsed = make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        driver = "sqlite+aiosqlite" if self.is_sqlite else "postgresql+asyncpg"
        self.url = parsed.set(drivername=driver)
        self._writing = asyncio.Lock()
        if self.is_sqlite:
            self._writer = _sqlite_engine(self.url, begin="BEGIN IMMEDIATE", pool_size=1, cache_kib=_WRITER_CACHE_KIB)
            self._reader = _sqlite_engine(self.url, begin="BEGIN", pool_size=4)
        else:
            limits = {"idle_in_transaction_session_timeout": str(int(stopped_after_s * 1_000))}
            self._writer = self._reader = create_async_engine(
                self.url, pool_size=10, max_overflow=10, connect_args={"server_settings": limits}, **_JSON
            )

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction for reading: one consistent picture on SQLite, one per statement on PostgreSQL.

        Raises Transient when the database is away.
        """
        async with self._translating(), self._reader.connect() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that commits at the end of the block, or leaves nothing if the block raises.

        Raises Violation when a constraint refuses, Stale when the database chose another transaction to go first,
        Transient when it is away. One commit (one fsync).
        """
        async with AsyncExitStack() as stack:
            if self.is_sqlite:
                await stack.enter_async_context(self._writing)
            began = time.monotonic()
            async with self._translating(), self._writer.begin() as connection:
                yield connection
            TRANSACTION_SECONDS.observe(time.monotonic() - began)

    @asynccontextmanager
    async def alter(self) -> AsyncIterator[AsyncConnection]:
        """A write transaction that may change tables; commits at the end of the block.

        On SQLite foreign keys are off in it and checked before the commit: a table is altered there by making it anew,
        and dropping the old one must not take what refers to it along. Raises what `write` raises.
        """
        if not self.is_sqlite:
            async with self.write() as connection:
                yield connection
            return
        engine = _sqlite_engine(self.url, begin="BEGIN IMMEDIATE", pool_size=1, foreign_keys=False)
        try:
            async with self._writing, self._translating(), engine.begin() as connection:
                yield connection
                broken = (await connection.exec_driver_sql("PRAGMA foreign_key_check")).all()
                if broken:
                    raise Bug(f"A migration leaves rows without what they refer to: {broken[:3]}")
        finally:
            await engine.dispose()

    async def create_all(self) -> None:
        """Make all tables at once, for tests; a cloud's database is made by its migrations."""
        async with self._writer.begin() as connection:
            await connection.run_sync(metadata.create_all)

    async def close(self) -> None:
        await self._writer.dispose()
        if self._reader is not self._writer:
            await self._reader.dispose()

    @asynccontextmanager
    async def _translating(self) -> AsyncIterator[None]:
        try:
            yield
        except MusterError:
            raise
        except IntegrityError as error:
            raise Violation(violated_constraint(error, metadata)) from error
        except (OperationalError, OSError) as error:
            raise Transient("The database does not answer", retry_after_s=1.0) from error
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) in _LOST_TO_ANOTHER:
                raise Stale("The database let another transaction go first") from error
            if error.connection_invalidated:
                raise Transient("The connection to the database broke", retry_after_s=1.0) from error
            raise


def _sqlite_engine(
    url: Any, *, begin: str, pool_size: int, foreign_keys: bool = True, cache_kib: int = _READER_CACHE_KIB
) -> AsyncEngine:
    engine = create_async_engine(url, pool_size=pool_size, max_overflow=0, pool_timeout=60, **_JSON)

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
