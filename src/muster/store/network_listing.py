"""Conditions, order and pages of network resources, in SQL: a page costs what it returns, not what exists."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Select, String, Table, and_, false, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.base.errors import Bug
from muster.domain.network_listing import Condition, ListQuery, Sort
from muster.store.dialects import among
from muster.store.tag_filters import tag_conditions
from muster.store.tags import tags

# Makes a WHERE term of the values asked for.
Term = Callable[[Sequence[Any]], ColumnElement[bool]]


# A condition every table with `updated_at` knows: changed at this time (Unix seconds) or later.
CHANGED_SINCE = "changed_since"


class MarkerNotFound(Exception):
    """The marker of a page names nothing; the store's callers turn it into their NotFound."""


class Listable(Struct, frozen=True):
    """A table that can be listed: how its fields that are not plain columns are compared."""

    table: Table
    terms: Mapping[str, Term] = {}


async def page(
    connection: AsyncConnection, listable: Listable, query: ListQuery, scope: Sequence[ColumnElement[bool]] = ()
) -> list[Any]:
    """The rows of a page, in order. `scope` says what may be seen at all. One query, two with a marker.

    Raises MarkerNotFound.
    """
    table = listable.table
    where = [
        *scope,
        *_conditions(listable, query.conditions),
        *tag_conditions(table.c.id, tags.c.resource_id, query.tags),
    ]
    statement: Select[Any] = select(table).where(*where)
    sorts = (*query.sorts, Sort("id"))
    if query.marker is not None:
        statement = statement.where(await _behind(connection, table, sorts, query))
    for sort in sorts:
        expression = _key(table, sort)
        statement = statement.order_by(expression.desc() if sort.descending != query.reverse else expression.asc())
    if query.limit is not None:
        statement = statement.limit(query.limit)
    rows = list(await connection.execute(statement))
    return rows[::-1] if query.reverse else rows


def _conditions(listable: Listable, conditions: Sequence[Condition]) -> list[ColumnElement[bool]]:
    terms: list[ColumnElement[bool]] = []
    for condition in conditions:
        if condition.field == CHANGED_SINCE:
            terms += [listable.table.c.updated_at >= value for value in condition.values]
            continue
        term = listable.terms.get(condition.field)
        if term is not None:
            terms.append(term(condition.values))
        elif condition.field in listable.table.c:
            terms.append(one_of(listable.table.c[condition.field], condition.values))
        else:
            raise Bug(f"{listable.table.name} cannot be listed by {condition.field}")
    return terms


def one_of(column: ColumnElement[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    """The column has one of the values, where None is NULL."""
    plain = [value for value in values if value is not None]
    term: ColumnElement[bool] = among(column, plain) if plain else false()
    return or_(term, column.is_(None)) if len(plain) < len(values) else term


def _key(table: Table, sort: Sort) -> ColumnElement[Any]:
    """What is sorted by: NULL counts as the lowest value on every database."""
    column = table.c[sort.field]
    if not column.nullable:
        return column
    return func.coalesce(column, "" if isinstance(column.type, String) else -1)


async def _behind(
    connection: AsyncConnection, table: Table, sorts: Sequence[Sort], query: ListQuery
) -> ColumnElement[bool]:
    """Rows that come after the marker's: greater in the first key, or equal there and greater in the second, ..."""
    keys = [_key(table, sort) for sort in sorts]
    row = (await connection.execute(select(*keys).where(table.c.id == query.marker))).first()
    if row is None:
        raise MarkerNotFound
    terms: list[ColumnElement[bool]] = []
    for index, (sort, key) in enumerate(zip(sorts, keys, strict=True)):
        equal = [before == value for before, value in zip(keys[:index], row[:index], strict=True)]
        further = key < row[index] if sort.descending != query.reverse else key > row[index]
        terms.append(and_(*equal, further))
    return or_(*terms)
