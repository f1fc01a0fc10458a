"""Conditions and pages of identity's lists, in words that mean the same to SQLite and PostgreSQL.

LIKE is avoided: it ignores case on one of them and not on the other.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Boolean, ColumnElement, Table, and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.attribute_filters import Filter, Listing, Page

Item = TypeVar("Item")


def conditions(table: Table, filters: Iterable[Filter]) -> list[ColumnElement[bool]]:
    """The conditions for filters on the table's own columns; one on another attribute matches nothing."""
    return [_condition(table.c[item.attribute], item) for item in filters]


def _condition(column: ColumnElement[Any], item: Filter) -> ColumnElement[bool]:
    if item.value is None:
        return column.is_(None)
    if isinstance(column.type, Boolean):
        return column.is_(bool(item.value))
    if item.comparator == "equals":
        return column == item.value
    value = str(item.value)
    if item.ignores_case:
        column, value = func.lower(column), value.lower()
    return _inexact(column, item.comparator, value)


def _inexact(column: ColumnElement[Any], comparator: str, value: str) -> ColumnElement[bool]:
    size = len(value)
    if not size:
        return column.is_not(None)
    if comparator == "startswith":
        return func.substr(column, 1, size) == value
    if comparator == "endswith":
        return and_(func.length(column) >= size, func.substr(column, func.length(column) - size + 1) == value)
    return func.replace(column, value, "") != column


async def read_page(
    connection: AsyncConnection,
    table: Table,
    where: Sequence[ColumnElement[bool]],
    page: Page,
    build: Callable[[Any], Item],
) -> Listing[Item]:
    """One page in the order of ids, and whether more follow. One query."""
    statement = select(table).where(*where).order_by(table.c.id).limit(page.limit + 1)
    if page.marker is not None:
        statement = statement.where(table.c.id > page.marker)
    rows = (await connection.execute(statement)).all()
    return Listing([build(row) for row in rows[: page.limit]], len(rows) > page.limit)
