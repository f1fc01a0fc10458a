"""The keys that seal tokens, themselves sealed: without the cluster's secret these rows open nothing."""

from collections.abc import Collection, Mapping

from msgspec import Struct
from sqlalchemy import Column, Integer, Table, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.store.columns import moment, text
from muster.store.dialects import among, upsert
from muster.store.engine import metadata

token_keys = Table(
    "token_keys",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    text("sealed"),
    moment("made_at"),
)


class SealedKey(Struct, frozen=True):
    """A key as it is kept, and when it was made (Unix seconds)."""

    sealed: str
    made_at: float


async def read(connection: AsyncConnection) -> dict[int, SealedKey]:
    """All keys by number. One query."""
    rows = await connection.execute(select(token_keys.c.number, token_keys.c.sealed, token_keys.c.made_at))
    return {number: SealedKey(sealed, made_at) for number, sealed, made_at in rows}


async def insert_missing(connection: AsyncConnection, keys: Mapping[int, SealedKey]) -> None:
    """Keep these keys, each unless there is one of its number. One statement."""
    rows = [{"number": number, "sealed": key.sealed, "made_at": key.made_at} for number, key in keys.items()]
    await connection.execute(upsert(connection, token_keys).values(rows).on_conflict_do_nothing())


async def renumber(connection: AsyncConnection, old: int, new: int, made_before: float) -> bool:
    """Give a key another number, if it was made by then; False if there is no such key (any more). One statement."""
    statement = update(token_keys).where(token_keys.c.number == old, token_keys.c.made_at <= made_before)
    return bool((await connection.execute(statement.values(number=new))).rowcount)


async def reseal(connection: AsyncConnection, seals: Mapping[str, str]) -> None:
    """Put the new seal of a key in place of the old one; one that is there no more is left alone. A statement each."""
    for old, new in seals.items():
        await connection.execute(update(token_keys).where(token_keys.c.sealed == old).values(sealed=new))


async def remove(connection: AsyncConnection, numbers: Collection[int]) -> None:
    """Forget these keys. One statement."""
    await connection.execute(delete(token_keys).where(among(token_keys.c.number, numbers)))
