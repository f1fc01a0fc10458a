"""The few places where SQLite and PostgreSQL need different words for the same statement."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import (
    BigInteger,
    BindParameter,
    Boolean,
    ColumnElement,
    Dialect,
    Executable,
    FromClause,
    Table,
    Text,
    bindparam,
    func,
    insert,
    literal,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from muster.base.errors import Bug

Item = TypeVar("Item")

# Items per statement. Where each is bound by itself: SQLite takes 32,766 bound values, asyncpg 32,767.
CHUNK = 5_000
# From so many rows on it pays to look for columns whose rows are all alike.
_MANY = 100
# What PostgreSQL calls an array of values of a Python type.
_ARRAYS: Mapping[type[Any], str] = {
    str: "text[]",
    int: "bigint[]",
    bool: "boolean[]",
    float: "double precision[]",
}
_ITEMS: Mapping[type[Any], type[TypeEngine[Any]]] = {str: Text, int: BigInteger, bool: Boolean}


def upsert(connection: AsyncConnection, table: Table) -> Any:
    """An INSERT that can say `on_conflict_do_update` or `on_conflict_do_nothing`."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


async def hold_table(connection: AsyncConnection, table: Table) -> None:
    """Nobody else writes this table until the transaction ends; whoever reads it goes on. For a rule about several of
    its rows, where they are few and seldom change. One statement on PostgreSQL; SQLite has one writer anyway."""
    if connection.dialect.name != "sqlite":
        await connection.exec_driver_sql(f"LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE")


async def insert_rows(connection: AsyncConnection, table: Table, names: Sequence[str], rows: Sequence[Any]) -> None:
    """Insert rows, each a tuple of values for the columns `names` as the driver takes them. One statement.

    `names` are in the order of the table's columns; texts, numbers and truth values. SQLAlchemy's own way makes a
    dictionary and then a list of each row, which costs more than SQLite's insertion of it: this is for rows by the
    thousand. PostgreSQL gets the columns as arrays: a message per row, as its driver sends it otherwise, costs it half
    as much again. A column that has one value throughout goes as that value: the driver looks at each item of an array.
    """
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        await connection.exec_driver_sql(_values_of(connection, table, names), list(rows))
    else:
        columns = [list(column) for column in zip(*rows, strict=True)]
        # Of few rows nothing is gained, and each mixture is a statement that connections prepare anew.
        same = [len(rows) >= _MANY and column.count(column[0]) == len(column) for column in columns]
        same[0] &= not all(same)  # something must say how many there are
        values = tuple(column[0] if alike else column for column, alike in zip(columns, same, strict=True))
        await connection.exec_driver_sql(_arrays_of(table, names, same), values)


def _values_of(connection: AsyncConnection, table: Table, names: Sequence[str]) -> str:
    """An INSERT for one row, which the driver repeats."""
    compiled = insert(table).compile(dialect=connection.dialect, column_keys=list(names))
    if getattr(compiled, "positiontup", None) != list(names):
        raise Bug(f"The columns of {table.name} come in another order than {names}")
    return str(compiled)


def _arrays_of(table: Table, names: Sequence[str], same: Sequence[bool]) -> str:
    """An INSERT for any number of rows, of one array per column, or one value for those that are the `same` throughout.

    Texts are sent without their length, so that one which is too long is refused and not cut.
    """
    if [column.name for column in table.columns if column.name in names] != list(names):
        raise Bug(f"The columns of {table.name} come in another order than {names}")
    kinds = [_ARRAYS[table.c[name].type.python_type] for name in names]
    places = list(enumerate(zip(names, kinds, same, strict=True), start=1))
    values = [f"${place}::{kind.removesuffix('[]')}" if alike else name for place, (name, kind, alike) in places]
    arrays = [f"${place}::{kind}" for place, (_, kind, alike) in places if not alike]
    varying = [name for name, alike in zip(names, same, strict=True) if not alike]
    rows = f"unnest({', '.join(arrays)}) AS made ({', '.join(varying)})"
    return f"INSERT INTO {table.name} ({', '.join(names)}) SELECT {', '.join(values)} FROM {rows}"  # noqa: S608 - our names


def _unnest(table: Table, names: Sequence[str]) -> str:
    arrays = [f"${place}::{_ARRAYS[table.c[name].type.python_type]}" for place, name in enumerate(names, start=1)]
    return f"unnest({', '.join(arrays)})"


async def update_rows(
    connection: AsyncConnection, table: Table, keys: Sequence[str], names: Sequence[str], rows: Sequence[Any]
) -> None:
    """Change rows: each a tuple of `keys`, then of the new values of `names`. One statement; as `insert_rows`."""
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        new = ", ".join(f"{name} = ?" for name in names)
        mine = " AND ".join(f"{name} = ?" for name in keys)
        values = [(*row[len(keys) :], *row[: len(keys)]) for row in rows]
        await connection.exec_driver_sql(f"UPDATE {table.name} SET {new} WHERE {mine}", values)  # noqa: S608 - our names
        return
    columns = (*keys, *names)
    new = ", ".join(f"{name} = wanted.{name}" for name in names)
    mine = " AND ".join(f"{table.name}.{name} = wanted.{name}" for name in keys)
    statement = (
        f"UPDATE {table.name} SET {new} FROM {_unnest(table, columns)} AS wanted ({', '.join(columns)}) WHERE {mine}"  # noqa: S608 - our names
    )
    await connection.exec_driver_sql(statement, tuple(list(column) for column in zip(*rows, strict=True)))


async def add_to_rows(
    connection: AsyncConnection,
    table: Table,
    keys: Sequence[str],
    name: str,
    rows: Sequence[Any],
    *,
    returning: Sequence[str],
) -> Sequence[Any]:
    """Add to the number `name` of those rows that there are: each of `rows` is a tuple of `keys`, then of the amount.

    Returns the columns `returning` of what was changed, as they are then. One statement.
    """
    if not rows:
        return []
    columns = (*keys, "amount")
    if connection.dialect.name == "sqlite":
        parts = ", ".join(f"json_extract(value, '$[{place}]') AS {column}" for place, column in enumerate(columns))
        source = f"(SELECT {parts} FROM json_each(?)) AS wanted"  # noqa: S608 - our names
        values: tuple[Any, ...] = (msgspec.json.encode(rows).decode(),)
    else:
        source = f"{_unnest(table, (*keys, name))} AS wanted ({', '.join(columns)})"
        values = tuple(list(column) for column in zip(*rows, strict=True))
    mine = " AND ".join(f"{table.name}.{key} = wanted.{key}" for key in keys)
    result = ", ".join(f"{table.name}.{column}" for column in returning)
    statement = (
        f"UPDATE {table.name} SET {name} = {table.name}.{name} + wanted.amount FROM {source} "  # noqa: S608 - our names
        f"WHERE {mine} RETURNING {result}"
    )
    return (await connection.exec_driver_sql(statement, values)).all()


def among(column: ColumnElement[Any], values: Collection[Any]) -> ColumnElement[bool]:
    """The column, of texts, whole numbers or truth values, has one of the values; None is none of them.

    What `column.in_(values)` says, but with one bound value for all: the statement is the same text however many there
    are, so SQLAlchemy writes it and each of PostgreSQL's connections prepares it once. Any number of values.
    """
    if len(values) == 1:
        # PostgreSQL keeps the plan of this; of an array so short it makes a new one each time, for 0.1 to 0.3 ms.
        [value] = values
        return column == literal(value, column.type)
    return _Among(column, bindparam(None, list(values), _values_of_column(column), unique=True))


def among_bound(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """As `among`, of the list that is bound by this name when the statement is executed."""
    return _Among(column, bindparam(name, type_=_values_of_column(column)))


class Keyed:
    """A statement about the rows whose `column` has one of some keys, as `among`, but made once, for any keys: putting
    most statements together costs more than executing them. For those that a cloud executes all the time.

    `statement` makes it of the condition. To be called with the keys, and what else the statement binds by name:
    `connection.execute(*keyed(keys))`.
    """

    def __init__(self, column: ColumnElement[Any], statement: Callable[[ColumnElement[bool]], Executable]) -> None:
        self._of_one = statement(column == bindparam("key", type_=column.type))
        self._of_many = statement(among_bound(column, "keys"))

    def __call__(self, keys: Collection[Any], **values: Any) -> tuple[Any, dict[str, Any]]:
        if len(keys) == 1:
            [key] = keys
            return self._of_one, {"key": key, **values}
        return self._of_many, {"keys": list(keys), **values}


def _values_of_column(column: ColumnElement[Any]) -> "_Values":
    return _Values(_ITEMS[column.type.python_type])


class _Values(TypeDecorator[list[Any]]):
    """A list as one bound value: an array, or the JSON of one."""

    impl = Text
    cache_ok = True

    def __init__(self, items: type[TypeEngine[Any]]) -> None:
        super().__init__()
        self.items = items

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else postgresql.ARRAY(self.items))

    def process_bind_param(self, value: list[Any] | None, dialect: Dialect) -> Any:
        return msgspec.json.encode(value).decode() if dialect.name == "sqlite" else value


class _Among(FunctionElement[bool]):
    # No type: of a Boolean that is no comparison of its own SQLAlchemy makes `(...) = 1`, which no index serves.
    inherit_cache = True


@compiles(_Among)
def _any_of_array(element: _Among, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} = ANY ({values})"


@compiles(_Among, "sqlite")
def _in_json(element: _Among, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608 - a placeholder


class GivenRows:
    """Rows of the caller's as a table to join with: of values for the columns `names`, of these types.

    Texts, numbers and truth values. One bound value on SQLite, one per column on PostgreSQL, however many the rows are.
    """

    def __init__(self, names: Mapping[str, type[Any]]) -> None:
        self._names = names

    def table(self, dialect: str) -> FromClause:
        """For a statement of this database's."""
        kinds = {name: _ITEMS[kind] for name, kind in self._names.items()}
        if dialect == "sqlite":
            each = func.json_each(bindparam("given", type_=Text())).table_valued("value")
            columns = [
                func.json_extract(each.c.value, f"$[{place}]", type_=kind()).label(name)
                for place, (name, kind) in enumerate(kinds.items())
            ]
            return select(*columns).subquery("given")
        arrays = [bindparam(f"given_{name}", type_=postgresql.ARRAY(kind)) for name, kind in kinds.items()]
        return func.unnest(*arrays).table_valued(*kinds, name="given").render_derived()

    def bound(self, dialect: str, rows: Sequence[Any]) -> dict[str, Any]:
        """What such a statement binds for these rows, each a tuple."""
        if dialect == "sqlite":
            return {"given": msgspec.json.encode(rows).decode()}
        values = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in self._names]
        return {f"given_{name}": items for name, items in zip(self._names, values, strict=True)}


def of_row(column: ColumnElement[Item]) -> ColumnElement[Item]:
    """The column, of rows that are found some other way.

    SQLite, which knows nothing about values, may think of an index that half of the table has one value in as good as
    any: it is told not to use one.
    """
    return _OfRow(column)


class _OfRow(FunctionElement[Any]):
    inherit_cache = True

    def __init__(self, column: ColumnElement[Any]) -> None:
        super().__init__(column)
        self.type = column.type


@compiles(_OfRow)
def _column(element: _OfRow, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)


@compiles(_OfRow, "sqlite")
def _without_index(element: _OfRow, compiler: SQLCompiler, **options: Any) -> str:
    return f"+{compiler.process(element.clauses, **options)}"  # https://www.sqlite.org/optoverview.html


def finds(
    column: ColumnElement[str], pattern: str | BindParameter[str], *, of_ascii: bool = False
) -> ColumnElement[bool]:
    """The text fits a pattern of LIKE (escape character \\), whatever the case of letters; on SQLite, of ASCII's.

    What `column.ilike(pattern)` says. For SQLite SQLAlchemy writes that with `lower` around both sides; LIKE does
    without there, and takes half as long. PostgreSQL is told to know ASCII's letters only where the pattern has no
    others (`of_ascii` says so of a bound one): to it that is a fifth of the work.
    """
    if isinstance(pattern, str):
        of_ascii, pattern = pattern.isascii(), literal(pattern, Text())
    return (_FindsAscii if of_ascii else _Finds)(column, pattern)


class _Finds(FunctionElement[bool]):
    # No type: see `_Among`.
    inherit_cache = True


class _FindsAscii(FunctionElement[bool]):
    inherit_cache = True


@compiles(_Finds)
def _ilike(element: _Finds, compiler: SQLCompiler, **options: Any) -> str:
    column, pattern = (compiler.process(clause, **options) for clause in element.clauses)
    return rf"{column} ILIKE {pattern} ESCAPE '\'"


@compiles(_FindsAscii)
def _ilike_ascii(element: _FindsAscii, compiler: SQLCompiler, **options: Any) -> str:
    column, pattern = (compiler.process(clause, **options) for clause in element.clauses)
    return rf"""{column} COLLATE "C" ILIKE {pattern} ESCAPE '\'"""


@compiles(_Finds, "sqlite")
@compiles(_FindsAscii, "sqlite")
def _like(element: _Finds | _FindsAscii, compiler: SQLCompiler, **options: Any) -> str:
    column, pattern = (compiler.process(clause, **options) for clause in element.clauses)
    return rf"{column} LIKE {pattern} ESCAPE '\'"


def chunks(items: Sequence[Item], size: int = CHUNK) -> Iterator[Sequence[Item]]:
    """The items in parts that fit one statement."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
