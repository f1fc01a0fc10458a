"""Keypairs: a user's public keys."""

from collections.abc import Collection, Sequence
from typing import Any

from msgspec.structs import asdict
from sqlalchemy import Column, String, Table, delete, insert, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.keypairs import Keypair
from muster.store.columns import moment, reference, text
from muster.store.dialects import chunks
from muster.store.engine import metadata

keypairs = Table(
    "keypairs",
    metadata,
    reference("user_id", primary_key=True),
    Column("name", String(255), primary_key=True),
    text("type", default="ssh"),
    text("public_key"),
    text("fingerprint"),
    moment("created_at"),
)


async def insert_all(connection: AsyncConnection, made: Sequence[Keypair]) -> None:
    """Write new keypairs; a taken name is a Violation. One statement."""
    await connection.execute(insert(keypairs), [asdict(keypair) for keypair in made])


async def read_named(connection: AsyncConnection, names: Collection[tuple[str, str]]) -> dict[tuple[str, str], Keypair]:
    """The keypairs of these (user, name). One query per chunk."""
    found: dict[tuple[str, str], Keypair] = {}
    for part in chunks(sorted(names)):
        where = tuple_(keypairs.c.user_id, keypairs.c.name).in_(part)
        for row in await connection.execute(select(keypairs).where(where)):
            found[row.user_id, row.name] = _keypair(row)
    return found


async def read_page(
    connection: AsyncConnection, user_id: str, *, limit: int | None = None, after: str | None = None
) -> list[Keypair]:
    """A user's keypairs by name, from the one behind `after` on. One query."""
    statement = select(keypairs).where(keypairs.c.user_id == user_id).order_by(keypairs.c.name).limit(limit)
    if after is not None:
        statement = statement.where(keypairs.c.name > after)
    return [_keypair(row) for row in await connection.execute(statement)]


async def remove(connection: AsyncConnection, user_id: str, name: str) -> bool:
    """Delete a keypair; False if there is none. One statement."""
    where = (keypairs.c.user_id == user_id) & (keypairs.c.name == name)
    return (await connection.execute(delete(keypairs).where(where))).rowcount == 1


def _keypair(row: Any) -> Keypair:
    return Keypair(**{name: row._mapping[name] for name in Keypair.__struct_fields__})
