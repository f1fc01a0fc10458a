"""Brings a database to the schema that this version of Muster works with: the newest migration.

Invariant: whoever starts first migrates, in one transaction and under the database's own lock; whoever starts at the
same time waits and finds it done. A schema that is not understood is refused and left as it is. Workers of the version
before go on meanwhile and afterwards: a migration adds only (a test looks), and does not stand in their way for longer
than it waits for a lock.
"""

import asyncio
import importlib
from random import SystemRandom
from typing import Any

from sqlalchemy import Connection as SyncConnection
from sqlalchemy import inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.base.errors import Conflict, Stale
from muster.base.imports import missing
from muster.store.engine import Database, Locked
from muster.store.migrations import HEAD

VERSION_TABLE = "alembic_version"

# PostgreSQL's advisory lock of migrations: any number that nothing else in the database uses.
_ADVISORY_LOCK = 0x6D757374
# A change of a table waits so long for those who use it, and whoever comes meanwhile waits behind it; then all go on,
# and it is tried again, so many times.
_LOCK_MS = 1_000
_TURNS = 60

_rng = SystemRandom()


class SchemaMismatch(Conflict):
    """The database was not made by migrations that this version of Muster knows."""

    code = "store.schema"


async def bring_to_head(database: Database) -> None:
    """Migrate the database as far as this version of Muster goes.

    Raises SchemaMismatch for tables made without migrations or by a newer version, Transient when the database is
    away, Locked or Stale when somebody uses a table for a minute on end. Two queries when there is nothing to do.
    """
    async with database.read() as connection:
        if await _revision(connection) == HEAD:
            return
    for turn in range(_TURNS):
        try:
            await _migrate(database)
            break
        except (Locked, Stale):  # the second: a deadlock with somebody who uses tables in another order
            if turn == _TURNS - 1:
                raise
            await asyncio.sleep(_rng.uniform(0.5, 1.5))  # the others, who wait behind us, go first


async def _migrate(database: Database) -> None:
    async with database.alter() as connection:
        if not database.is_sqlite:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            await connection.execute(text(f"SET LOCAL lock_timeout = {_LOCK_MS}"))
        found = await _revision(connection)  # once more: another process may have been at it
        if found != HEAD:
            running = _alembic()
            await _check(connection, found, running.revisions())
            await connection.run_sync(running.upgrade)


async def _check(connection: AsyncConnection, found: str | None, known: list[str]) -> None:
    if found is not None and found not in known:
        raise SchemaMismatch(
            f"The database is at revision {found}, which this version of Muster does not know: it was made by another "
            "version. Start that version, or give Muster an empty database or data folder."
        )
    if found is None and (tables := await connection.run_sync(_tables)):
        raise SchemaMismatch(
            f"The database has tables (such as {tables[0]}) but no migrations: it was made by an early version of "
            "Muster or by something else. Give Muster an empty database or data folder."
        )


async def _revision(connection: AsyncConnection) -> str | None:
    if VERSION_TABLE not in await connection.run_sync(_tables):
        return None
    return (await connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}"))).scalar()  # noqa: S608


def _tables(connection: SyncConnection) -> list[str]:
    return sorted(inspect(connection).get_table_names())


def _alembic() -> Any:
    """Loaded only when there is something to migrate: it would be a fifth of a start's time.

    Mako, which it makes files with, would colour them by pygments: 5 MiB.
    """
    with missing("pygments"):
        return importlib.import_module("muster.store.migrations.running")
