"""The few places where SQLite and PostgreSQL need different words for the same statement."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Table, insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.base.errors import Bug

Item = TypeVar("Item")

# Bound values per statement: SQLite takes 32,766, asyncpg 32,767.
CHUNK = 5_000


def upsert(connection: AsyncConnection, table: Table) -> Any:
    """An INSERT that can say `on_conflict_do_update` or `on_conflict_do_nothing`."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


async def insert_rows(connection: AsyncConnection, table: Table, names: Sequence[str], rows: Sequence[Any]) -> None:
    """Insert rows, each a tuple of values for the columns `names` as the driver takes them. One call of the driver.

    `names` are in the order of the table's columns. SQLAlchemy's own way makes a dictionary and then a list of each
    row, which costs more than SQLite's insertion of it: this is for rows by the thousand.
    """
    compiled = insert(table).compile(dialect=connection.dialect, column_keys=list(names))
    if getattr(compiled, "positiontup", None) != list(names):
        raise Bug(f"The columns of {table.name} come in another order than {names}")
    await connection.exec_driver_sql(str(compiled), list(rows))


def chunks(items: Sequence[Item], size: int = CHUNK) -> Iterator[Sequence[Item]]:
    """The items in parts that fit one statement."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
