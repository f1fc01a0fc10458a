"""The few places where SQLite and PostgreSQL need different words for the same statement."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

Item = TypeVar("Item")

# Bound values per statement: SQLite takes 32,766, asyncpg 32,767.
CHUNK = 5_000


def upsert(connection: AsyncConnection, table: Table) -> Any:
    """An INSERT that can say `on_conflict_do_update` or `on_conflict_do_nothing`."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


def chunks(items: Sequence[Item], size: int = CHUNK) -> Iterator[Sequence[Item]]:
    """The items in parts that fit one statement."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
