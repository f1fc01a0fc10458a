"""What a database's catalog says of its schema, in a form that can be compared."""

from typing import Any

from sqlalchemy import Connection, Row, inspect, text
from sqlalchemy.engine.interfaces import ReflectedColumn

from muster.store.schema import VERSION_TABLE


def schema_of(connection: Connection) -> dict[str, Any]:
    """Tables, columns, keys, constraints and indexes (with their conditions) of all tables but Alembic's own."""
    inspector = inspect(connection)
    return {
        name: {
            "columns": {column["name"]: _column(column) for column in inspector.get_columns(name)},
            "primary key": inspector.get_pk_constraint(name),
            "foreign keys": _sorted(inspector.get_foreign_keys(name)),
            "unique": _sorted(inspector.get_unique_constraints(name)),
            "checks": _sorted(inspector.get_check_constraints(name)),
            "indexes": _sorted(inspector.get_indexes(name)),
            "indexes as they were made": _statements(connection, name),
            "numbers never come again": _autoincrement(connection, name),
            "triggers": _triggers(connection, name),
            "how it is stored": _storage(connection, name),
        }
        for name in inspector.get_table_names()
        if name != VERSION_TABLE
    }


def _triggers(connection: Connection, table: str) -> list[tuple[Any, ...]]:
    """Each with what it does."""
    if connection.dialect.name == "sqlite":
        return []
    statement = text(
        "SELECT tgname, pg_get_triggerdef(t.oid), prosrc, proconfig FROM pg_trigger t JOIN pg_proc p ON p.oid = tgfoid"
        " WHERE tgrelid = CAST(:table AS regclass) AND NOT tgisinternal ORDER BY tgname"
    )
    return [tuple(row) for row in connection.execute(statement, {"table": table})]


def _storage(connection: Connection, table: str) -> list[str] | None:
    if connection.dialect.name == "sqlite":
        return None
    statement = text("SELECT reloptions FROM pg_class WHERE oid = CAST(:table AS regclass)")
    found: list[str] | None = connection.execute(statement, {"table": table}).scalar_one()
    return found


def rows_of(connection: Connection, tables: list[str]) -> dict[str, list[dict[str, Any]]]:
    """All rows of these tables, as the driver returns them."""
    return {name: [_plain(row) for row in connection.execute(text(f'SELECT * FROM "{name}"'))] for name in tables}


def _plain(row: Row[Any]) -> dict[str, Any]:
    return dict(row._mapping)


def _column(column: ReflectedColumn) -> tuple[Any, ...]:
    return str(column["type"]), column["nullable"], column["default"]


def _sorted(found: list[Any]) -> list[Any]:
    plain = [
        {
            key: {k: str(v) for k, v in value.items()} if key == "dialect_options" else value
            for key, value in one.items()
        }
        for one in found
    ]
    return sorted(plain, key=lambda one: str(one["name"]))


def _statements(connection: Connection, table: str) -> list[str]:
    """Of SQLite, of whose catalog SQLAlchemy reads no expressions."""
    if connection.dialect.name != "sqlite":
        return []
    statement = text("SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = :name AND sql IS NOT NULL")
    return sorted(" ".join(sql.split()) for sql in connection.execute(statement, {"name": table}).scalars())


def _autoincrement(connection: Connection, table: str) -> bool:
    if connection.dialect.name != "sqlite":
        return False
    statement = text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :name")
    return "AUTOINCREMENT" in connection.execute(statement, {"name": table}).scalar_one()
