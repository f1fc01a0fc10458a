"""Connections to PostgreSQL: where they are made, how a dead one is noticed, and what the driver's errors mean.

Invariant: a connection that its server or the network has ended is never handed out, and a server that takes no writes
(the old primary after a failover) is not used.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from muster.base.errors import Transient
from muster.base.metrics import CONNECTION_WAIT_SECONDS, CONNECTIONS
from muster.base.tcp import notice_silence
from muster.store.json_columns import JSON
from muster.store.postgresql_settings import PostgresSettings

# What the driver raises when a connection breaks while it is made ready; what comes later SQLAlchemy translates.
BROKEN = (
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,
)
# The driver waits this much longer than PostgreSQL itself, which ends a slow statement in good order.
_GRACE_S = 5.0

# How long after its server's last words a connection is closed, at the latest: a second, and how often we look.
_LOOK_S, _LOOKS = 0.02, 50

# How many statements a connection keeps prepared: more than there are in use.
_STATEMENTS = 500

# SQLSTATEs (PostgreSQL, appendix A).
# Serialization failure and deadlock: the transaction left nothing and may be decided again.
_LOST_TO_ANOTHER = frozenset({"40001", "40P01"})
# The connection broke; the server shuts down, crashed or starts; the transaction was ended because its process stood
# still; no connection is left; the server takes no writes.
_AWAY = ("08", "57P", "25P03", "53300", "25006")
# Too long a statement; no disk or memory left.
_LATER = ("57014", "53")
# The server or the database does not know us: waiting helps nobody.
_REFUSED = ("28", "3D")


class Servers:
    """Makes connections to whichever server takes writes, beginning with the one that did last time.

    `engine`'s pool gives no connection away that is known to be dead, or was made before `distrust` was called.
    """

    def __init__(self, settings: PostgresSettings) -> None:
        self._settings = settings
        self._dsns = list(settings.dsns)
        self._generation = 0
        self.engine = create_async_engine(
            "postgresql+asyncpg://",
            creator=self._adapted,
            pool_size=settings.connections,
            max_overflow=1,  # for whoever looks whether the server is back
            pool_use_lifo=True,  # each prepares its statements for itself: few connections should, not all in turn
            **JSON,
        )
        self._turns = asyncio.Semaphore(settings.connections)
        event.listen(self.engine.sync_engine, "connect", self._on_connect)
        event.listen(self.engine.sync_engine, "checkout", self._on_checkout)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One of the connections may be taken: first come, first served. Raises Transient after `queue_s`.

        Whoever waits in SQLAlchemy's own queue is not woken when a connection that was to be made fails.
        """
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._settings.queue_s):
                await self._turns.acquire()
        except TimeoutError as error:
            raise Transient("The database has too much to do", retry_after_s=2.0) from error
        CONNECTION_WAIT_SECONDS.observe(time.monotonic() - began)
        try:
            with CONNECTIONS.track_inprogress():
                yield
        finally:
            self._turns.release()

    def distrust(self) -> None:
        """A server that was right is wrong now: no connection made so far is used any more."""
        self._generation += 1

    def _on_connect(self, _dbapi_connection: Any, record: ConnectionPoolEntry) -> None:
        record.info["generation"] = self._generation

    def _on_checkout(self, dbapi_connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
        # A server that ends says so to each of its connections; asking costs no round trip, as a ping would.
        if dbapi_connection.driver_connection.is_closed() or record.info["generation"] != self._generation:
            raise DisconnectionError

    def _adapted(self) -> Any:
        """A connection as SQLAlchemy wants it: what `async_creator` would do, which takes no size of the cache."""
        return self.engine.sync_engine.dialect.dbapi.connect(  # type: ignore[union-attr]
            async_creator_fn=self._connect, prepared_statement_cache_size=_STATEMENTS
        )

    async def _connect(self) -> Any:
        """A connection of the driver's. Raises the driver's errors, OSError, TimeoutError."""
        error: Exception = OSError("no server is named")
        for dsn in list(self._dsns):
            try:
                made = await self._connect_to(dsn)
            except (OSError, asyncpg.PostgresError, asyncpg.InternalClientError) as failure:
                error = failure
            else:
                self._dsns.remove(dsn)
                self._dsns.insert(0, dsn)
                return made
        raise error

    async def _connect_to(self, dsn: str) -> Any:
        settings = self._settings
        async with asyncio.timeout(settings.connect_s):
            made = await asyncpg.connect(
                dsn,
                command_timeout=settings.statement_s + _GRACE_S,
                server_settings=settings.server_settings(),
                target_session_attrs="read-write",
            )
        link = made._transport.get_extra_info("socket")
        if link.family != socket.AF_UNIX:
            notice_silence(link, settings.silence_s)
        return made


def sqlstate(error: DBAPIError) -> str:
    """The five characters by which PostgreSQL names its errors; empty for the driver's own."""
    return getattr(error.orig, "sqlstate", None) or ""


def lost_to_another(error: DBAPIError) -> bool:
    """Whether the transaction left nothing, for another's sake, and may be decided again at once."""
    invalid_plan = getattr(error.orig, "__cause__", None)
    return sqlstate(error) in _LOST_TO_ANOTHER or isinstance(invalid_plan, asyncpg.InvalidCachedStatementError)


def read_only(error: DBAPIError) -> bool:
    """Whether the server takes no writes: another one has taken its place, or its operator said so."""
    return sqlstate(error) == "25006"


def away(error: DBAPIError) -> bool:
    """Whether the server or the connection to it is gone."""
    gone = isinstance(getattr(error.orig, "__cause__", None), asyncpg.TargetServerAttributeNotMatched)
    return error.connection_invalidated or gone or sqlstate(error).startswith(_AWAY)


def at_a_loss(error: DBAPIError) -> bool:
    """Whether the driver does not know how to go on: its connection is not to be used any more.

    So it is while it takes in the last words of a server that ends (see `ends`), and after a mistake of its own.
    """
    return isinstance(getattr(error.orig, "__cause__", None), asyncpg.InternalClientError)


async def ends(connection: AsyncConnection) -> bool:
    """Whether the connection's server is ending it, which the driver notices a moment after the server's last words."""
    driver: Any = (await connection.get_raw_connection()).driver_connection
    for _ in range(_LOOKS):
        if driver.is_closed():
            return True
        await asyncio.sleep(_LOOK_S)
    return False


def locked(error: DBAPIError) -> bool:
    """Whether a lock was not to be had within `lock_timeout`."""
    return sqlstate(error) == "55P03"


def later(error: DBAPIError) -> bool:
    """Whether the server is there but has too much to do."""
    return sqlstate(error).startswith(_LATER)


def refused(error: DBAPIError) -> bool:
    """Whether the server does not let us in, or we do not know how to ask."""
    configured = isinstance(getattr(error.orig, "__cause__", None), asyncpg.exceptions.ClientConfigurationError)
    return configured or sqlstate(error).startswith(_REFUSED)
