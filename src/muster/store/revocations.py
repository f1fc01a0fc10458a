"""Revocations of tokens, and the clock that numbers them.

Invariant: the clock's one row stays locked from the moment a transaction takes a number until it commits, so numbers
become visible in their own order: a reader that sees number n sees all before it. For the same reason a transaction
takes its number last.
"""

from collections.abc import Collection, Sequence

from sqlalchemy import BigInteger, Column, ColumnElement, Integer, String, Table, case, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.revocations import Revocation
from muster.store.columns import moment
from muster.store.dialects import among, upsert
from muster.store.engine import metadata

revocation_clock = Table(
    "revocation_clock",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
)

revocations = Table(
    "revocations",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("subject", String(400), primary_key=True, index=True),
    moment("expires_at"),
)

_CLOCK_ID = 1


async def start_clock(connection: AsyncConnection) -> None:
    """Make the clock's row if there is none. One statement."""
    statement = upsert(connection, revocation_clock).values(id=_CLOCK_ID, seq=0).on_conflict_do_nothing()
    await connection.execute(statement)


async def read_clock(connection: AsyncConnection) -> int:
    """The number of the newest revocation; 0 before the first. One query."""
    statement = select(revocation_clock.c.seq).where(revocation_clock.c.id == _CLOCK_ID)
    return int((await connection.execute(statement)).scalar() or 0)


async def record(
    connection: AsyncConnection, subjects: Collection[str], now: float, expires_at_s: float
) -> list[Revocation]:
    """Revoke the subjects under one new number; the last statements of their transaction.

    The number is the time in microseconds, or one more than the last where that is higher: so it also grows over a
    database that was put back from an older copy. Two statements.
    """
    if not subjects:
        return []
    now_us = int(now * 1_000_000)
    await start_clock(connection)
    grown = case((revocation_clock.c.seq >= now_us, revocation_clock.c.seq + 1), else_=now_us)
    statement = update(revocation_clock).where(revocation_clock.c.id == _CLOCK_ID).values(seq=grown)
    seq = int((await connection.execute(statement.returning(revocation_clock.c.seq))).scalar_one())
    made = [Revocation(seq, subject, expires_at_s) for subject in sorted(set(subjects))]
    rows = [{"seq": one.seq, "subject": one.subject, "expires_at": one.expires_at_s} for one in made]
    await connection.execute(insert(revocations), rows)
    return made


async def read_since(connection: AsyncConnection, seq: int, now: float) -> list[Revocation]:
    """Revocations above a number that still matter, in order. One query."""
    statement = (
        select(revocations.c.seq, revocations.c.subject, revocations.c.expires_at)
        .where(revocations.c.seq > seq, revocations.c.expires_at > now)
        .order_by(revocations.c.seq)
    )
    return [Revocation(*row) for row in await connection.execute(statement)]


async def is_revoked(connection: AsyncConnection, subjects: Sequence[str], epoch: int) -> bool:
    """Whether one of the subjects was revoked above a number. One query."""
    statement = select(revocations.c.seq).where(among(revocations.c.subject, subjects), revocations.c.seq > epoch)
    return (await connection.execute(statement.limit(1))).first() is not None


async def has_expired_ones(connection: AsyncConnection, now: float) -> bool:
    """Whether there is something to prune. One query."""
    return (await connection.execute(select(revocations.c.seq).where(_expired(now)).limit(1))).first() is not None


async def prune(connection: AsyncConnection, now: float) -> None:
    """Forget revocations whose tokens have all expired. One statement."""
    await connection.execute(delete(revocations).where(_expired(now)))


def _expired(now: float) -> ColumnElement[bool]:
    return revocations.c.expires_at <= now
