"""Connections and transactions.

SQLite has one writer: its write transactions queue here, first come, first served, instead of failing as 'locked'.
PostgreSQL's go side by side. Errors of the drivers leave this module only as errors of `base.errors`.

Invariant: a write transaction says the truth about its commit also when the connection breaks in the middle of it: it
ends well when it was committed, and raises Away only when it certainly was not.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from msgspec.structs import replace
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from muster.base.errors import Away, Bug, Conflict, InDoubt, MusterError, Stale, Transient
from muster.base.log import get_logger
from muster.base.metrics import IN_DOUBT, TRANSACTION_SECONDS
from muster.store import commits, postgresql
from muster.store.metadata import metadata
from muster.store.postgresql_settings import from_url
from muster.store.presence import Presence
from muster.store.sqlite import WRITER, sqlite_engine
from muster.store.violations import violated_constraint

__all__ = ["Connection", "Database", "Locked", "Violation", "metadata"]

log = get_logger(__name__)

# The type of a transaction's handle, for services, which pass it on and run no SQL themselves.
Connection = AsyncConnection

# How many write transactions between two in which ids of old ones are removed.
_FORGET_EVERY = 500
_ASK_AGAIN_S = 0.1
_ALTER_S = 86_400.0


class Violation(Conflict):
    """A constraint refused a write; `constraint` is its name, the same on every database."""

    code = "store.violation"

    def __init__(self, constraint: str) -> None:
        super().__init__(f"The database refused the change: {constraint}")
        self.constraint = constraint


class Locked(Transient):
    """A lock was not to be had within `lock_timeout`."""

    code = "store.locked"


class Database:
    """A database by its URL: `sqlite:///path` or `postgresql://user@host/name` (see `postgresql_settings`)."""

    def __init__(self, url: str, **settings: float) -> None:
        """`settings` are those of PostgreSQL, before those in the URL. Raises Invalid."""
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        self._writing = asyncio.Lock()
        self._writes = 0
        if self.is_sqlite:
            self._file = make_url(url).set(drivername="sqlite+aiosqlite")
            self._writer = sqlite_engine(self._file, begin="BEGIN IMMEDIATE", pool_size=1, caching=WRITER)
            self._reader = sqlite_engine(self._file, begin="BEGIN", pool_size=4)
            self._doubt_s = self._patience_s = 0.0
        else:
            self._settings = from_url(url, **settings)
            self._servers = postgresql.Servers(self._settings)
            self._writer = self._servers.engine
            # Each statement has a picture of its own anyway, so it needs no BEGIN before it and no ROLLBACK behind.
            self._reader = self._writer.execution_options(isolation_level="AUTOCOMMIT")
            self._doubt_s, self._patience_s = self._settings.doubt_s, self._settings.patience_s
        self._presence = Presence(self._look, self._patience_s)

    @asynccontextmanager
    async def read(self, *, one_picture: bool = False) -> AsyncIterator[AsyncConnection]:
        """For reading: one consistent picture on SQLite, one per statement on PostgreSQL, without a transaction.

        With `one_picture`, PostgreSQL too shows what was committed at the first statement (REPEATABLE READ): that is a
        transaction, two round trips more. Waits for a database that is away. Raises Away when it goes away in the
        middle, Transient when it stays away.
        """
        if self.is_sqlite or not one_picture:
            async with self._connected(self._reader) as connection:
                yield connection
            return
        async with self._connected(self._writer) as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes nothing, and has what it locked until the end of the block. On SQLite, as `read`.

        Raises what `read` raises.
        """
        async with self._connected(self._reader if self.is_sqlite else self._writer) as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that commits at the end of the block, or leaves nothing if the block raises.

        Waits for a database that is away before it begins. Raises Violation when a constraint refuses, Stale when the
        database chose another transaction to go first, Transient when it stays away or has too much to do, Away when it
        went away and nothing was committed, InDoubt when that cannot be found out. One commit (one fsync); on
        PostgreSQL one statement more, see `commits`.
        """
        mark: tuple[str, int] | None = None
        async with AsyncExitStack() as stack:
            if self.is_sqlite:
                await stack.enter_async_context(self._writing)
            began = time.monotonic()
            try:
                async with self._connected(self._writer) as connection, connection.begin():
                    yield connection
                    if not self.is_sqlite:
                        mark = await self._mark(connection)
            except Transient:
                if mark is None:  # no COMMIT was sent
                    raise
                await self._settle(*mark)
            TRANSACTION_SECONDS.observe(time.monotonic() - began)

    @asynccontextmanager
    async def alter(self) -> AsyncIterator[AsyncConnection]:
        """A write transaction that may change tables; commits at the end of the block.

        On SQLite foreign keys are off in it and checked before the commit: a table is altered there by making it anew,
        and dropping the old one must not take what refers to it along. On PostgreSQL a statement may take as long as it
        takes, but waits for a lock only for a moment, and with it all who come after: Locked then. Raises what `write`
        raises; Away also when it is in doubt whether it was committed.
        """
        if not self.is_sqlite:
            engine = postgresql.Servers(replace(self._settings, statement_s=_ALTER_S)).engine
            try:
                async with self._connected(engine) as connection, connection.begin():
                    yield connection
            finally:
                await engine.dispose()
            return
        engine = sqlite_engine(self._file, begin="BEGIN IMMEDIATE", pool_size=1, foreign_keys=False)
        try:
            async with self._writing, self._connected(engine) as connection, connection.begin():
                yield connection
                broken = (await connection.exec_driver_sql("PRAGMA foreign_key_check")).all()
                if broken:
                    raise Bug(f"A migration leaves rows without what they refer to: {broken[:3]}")
        finally:
            await engine.dispose()

    async def close(self) -> None:
        await self._presence.close()
        await self._writer.dispose()
        if self._reader is not self._writer:
            await self._reader.dispose()

    @asynccontextmanager
    async def _connected(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        """A connection. Raises what `read` raises."""
        async with AsyncExitStack() as stack:
            connection = await self._connect(engine, stack)
            try:
                with self._translating():
                    yield connection
            except DBAPIError as error:
                if postgresql.at_a_loss(error) and await self._is_given_up(connection):
                    raise self._lost() from error
                raise

    async def _is_given_up(self, connection: AsyncConnection) -> bool:
        """See to it that nobody gets a connection which the driver cannot use any more; whether its server ended it.

        If not, what happened is a mistake, which waiting for the database would only hide.
        """
        ended = await postgresql.ends(connection)
        await connection.invalidate()
        return ended

    async def _connect(self, engine: AsyncEngine, stack: AsyncExitStack) -> AsyncConnection:
        """A connection, given back by `stack`. Nothing was asked of it, so a database that is away is waited for."""
        until = time.monotonic() + self._patience_s
        await self._presence.wait()
        if not self.is_sqlite:
            await stack.enter_async_context(self._servers.turn())
        while True:
            await self._presence.wait()
            try:
                connection = await self._open(engine)
            except Away as error:
                if time.monotonic() >= until:
                    raise Transient("The database is away", retry_after_s=2.0) from error
            else:
                stack.push_async_callback(self._release, connection)
                return connection

    async def _open(self, engine: AsyncEngine) -> AsyncConnection:
        """A connection out of the pool, or a new one. Raises Away also for one that breaks while it is made ready."""
        try:
            with self._translating():
                return await engine.connect().start()
        except postgresql.BROKEN as error:
            raise self._lost() from error
        except DBAPIError as error:
            if postgresql.at_a_loss(error):
                raise self._lost() from error
            raise

    async def _release(self, connection: AsyncConnection) -> None:
        """Give a connection back, also when the caller is cancelled. One that broke meanwhile is nobody's error any
        more: what was to be read is read, what was to be committed is.
        """
        with contextlib.suppress(DBAPIError, OSError):
            if self.is_sqlite:  # that waits for nothing, so that nobody can be cancelled in it: see `sqlite_trips`
                await connection.close()
            else:
                await asyncio.shield(asyncio.create_task(connection.close()))

    async def _look(self) -> None:
        async with self._writer.connect() as connection:
            await connection.exec_driver_sql("SELECT 1")

    async def _mark(self, connection: AsyncConnection) -> tuple[str, int]:
        self._writes += 1
        if self._writes % _FORGET_EVERY == 0:
            await commits.forget(connection)
        return await commits.record(connection)

    async def _settle(self, commit_id: str, process: int) -> None:
        """Find out about a commit that got no answer. Raises Away if it was not made, InDoubt if nobody can tell."""
        IN_DOUBT.inc()
        until = time.monotonic() + self._doubt_s
        while time.monotonic() < until:
            try:
                async with self._connected(self._writer) as connection, connection.begin():
                    committed = await commits.settle(connection, commit_id)
            except Transient as error:
                await asyncio.sleep(_ASK_AGAIN_S)
                if not isinstance(error, Away):  # the server may not know yet that nobody is there any more
                    await self._end(process)
            else:
                log.warning("a commit got no answer", action="store.in_doubt", committed=committed)
                if committed:
                    return
                raise Away("The database went away before it committed", retry_after_s=1.0)
        raise InDoubt("The database went away while it committed: look before you ask again", retry_after_s=5.0)

    async def _end(self, process: int) -> None:
        with contextlib.suppress(Transient):
            async with self._connected(self._writer) as connection, connection.begin():
                await commits.end(connection, process)

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except MusterError:
            raise
        except IntegrityError as error:
            raise Violation(violated_constraint(error, metadata)) from error
        except OperationalError as error:  # SQLite's only
            raise Transient("The database does not answer", retry_after_s=1.0) from error
        except OSError as error:  # a time-out is one as well
            if self.is_sqlite:
                raise Transient("The database does not answer", retry_after_s=1.0) from error
            raise self._lost() from error
        except DBAPIError as error:
            self._translate(error)
            raise

    def _translate(self, error: DBAPIError) -> None:
        """Raise what PostgreSQL's error means to whoever calls; return if it means nothing but a mistake of ours."""
        if postgresql.lost_to_another(error):
            raise Stale("The database let another transaction go first") from error
        if postgresql.read_only(error):
            self._servers.distrust()
        if postgresql.away(error):
            raise self._lost() from error
        if postgresql.locked(error):
            raise Locked("Others have locked what is needed", retry_after_s=1.0) from error
        if postgresql.later(error):
            raise Transient("The database has too much to do", retry_after_s=2.0) from error
        if postgresql.refused(error):
            raise Transient(f"The database refuses Muster: {error.orig}", retry_after_s=5.0) from error

    def _lost(self) -> Away:
        self._presence.lost()
        return Away("The database does not answer", retry_after_s=1.0)
