"""Which transactions were committed, for those whose COMMIT got no answer (PostgreSQL only).

The last statement of each write transaction writes an id of its own here. When the connection breaks while COMMIT is
on its way, whoever sent it writes the same id as void: the primary key makes that wait for the end of the transaction
in doubt, so it either finds the id there, committed, or has made sure that it never will be. The row is part of the
database, so it stays true through a failover that loses the newest commits, after which PostgreSQL's own numbers of
transactions (pg_xact_status) are used again by others.
"""

from typing import Any

from sqlalchemy import Boolean, Column, Float, Table, delete, func, select, text
from sqlalchemy import insert as insert_into
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.base.ids import new_uuid
from muster.store.columns import identity_column, moment
from muster.store.metadata import metadata

# Long after the last who could ask.
_KEPT_S = 3_600.0
_REMOVED = 1_000
# How long the transaction in doubt may hold up the question; then its connection, which nobody has any more, is ended.
_WAIT_MS = 2_000

commits = Table(
    "commits",
    metadata,
    identity_column(),
    Column("done", Boolean, nullable=False),
    moment("made_at"),
)
_now = func.extract("epoch", func.clock_timestamp()).cast(Float(53))


async def record(connection: AsyncConnection) -> tuple[str, int]:
    """Write this transaction's id, as the last thing before its COMMIT: the id and the server's process. One insert."""
    commit_id = new_uuid()
    await connection.execute(insert_into(commits).values(id=commit_id, done=True, made_at=_now))
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    return commit_id, driver.get_server_pid()


async def settle(connection: AsyncConnection, commit_id: str) -> bool:
    """Whether the transaction of this id was committed; if not, it never will be once this one is.

    Waits for its end, up to two seconds; then Locked is raised. One to four statements.
    """
    found = select(commits.c.done).where(commits.c.id == commit_id)
    done = (await connection.execute(found)).scalar_one_or_none()
    if done is None:
        await connection.execute(text(f"SET LOCAL lock_timeout = {_WAIT_MS}"))
        void = postgresql_insert(commits).values(id=commit_id, done=False, made_at=_now)
        await connection.execute(void.on_conflict_do_nothing())
        done = (await connection.execute(found)).scalar_one()
    return bool(done)


async def end(connection: AsyncConnection, process: int) -> None:
    """End the server's process of a connection that nobody has any more, if it still waits for its next statement."""
    statement = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = :process AND usename = current_user"
        " AND application_name = 'muster' AND state LIKE 'idle in transaction%'"
    )
    await connection.execute(statement, {"process": process})


async def forget(connection: AsyncConnection) -> None:
    """Remove ids that nobody will ask for. One statement; rows that another process removes are left to it."""
    old = select(commits.c.id).where(commits.c.made_at < _now - _KEPT_S).limit(_REMOVED)
    await connection.execute(delete(commits).where(commits.c.id.in_(old.with_for_update(skip_locked=True))))
