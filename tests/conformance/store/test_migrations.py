"""The migrations make exactly what the tables say, keep what is there, and are run once however many start at once."""

import asyncio
import importlib.util
import inspect
import pkgutil
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import JSON, Connection, MetaData, Table, text

import muster.store
from muster.base.errors import Bug, Transient
from muster.store import tables
from muster.store.engine import Database
from muster.store.migrations import HEAD, running
from muster.store.schema import VERSION_TABLE, SchemaMismatch, bring_to_head

from .pictures import rows_of, schema_of

HOW = (
    'The tables in src/muster/store have changed. Run: scripts/migration "what changed"\n'
    "(before the first release: scripts/migration --initial, which writes the one first revision anew), "
    "read what it wrote, and commit it with the change."
)


@pytest.fixture
async def empty(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    yield opened
    await asyncio.shield(opened.close())


async def _schema(database: Database) -> dict:
    async with database.read() as connection:
        return await connection.run_sync(schema_of)


async def test_the_migrations_make_what_the_tables_say(empty, database_url, request, tmp_path):
    await bring_to_head(empty)
    async with empty.read() as connection:
        found = await connection.run_sync(running.differences)
    assert not found, f"{HOW}\nAlembic finds: {found}"
    # Alembic does not compare everything (conditions of indexes, names of keys), so the catalogs are compared as well.
    if empty.is_sqlite:
        other = Database(f"sqlite:///{tmp_path}/by-tables.db")
    else:
        other = Database(await request.getfixturevalue("postgres").create_database())
    try:
        async with other.alter() as connection:
            await connection.run_sync(tables.metadata.create_all)
        migrated, made = await _schema(empty), await _schema(other)
    finally:
        await other.close()
    assert len(made) > 20
    assert migrated == made, HOW


def test_every_table_is_known_and_head_is_the_newest_revision():
    holders = {value.__name__ for value in vars(tables).values() if inspect.ismodule(value)}
    defined = {
        name
        for module in pkgutil.iter_modules(muster.store.__path__, "muster.store.")
        if (name := module.name) and " = Table(" in _source(name)
    }
    assert defined == holders, "muster/store/tables.py must name every module that holds a table"
    assert running.revisions()[-1] == HEAD, HOW


def _source(module: str) -> str:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    with open(spec.origin, encoding="utf-8") as file:
        return file.read()


async def test_an_upgrade_from_the_first_revision_keeps_what_is_there(empty):
    def first(connection: Connection) -> dict:
        running.upgrade(connection, running.revisions()[0])
        found = _reflected(connection)
        for table in found:
            connection.execute(table.insert().values(_row(table)))
        return rows_of(connection, [table.name for table in found])

    def now(connection: Connection) -> dict:
        return rows_of(connection, [table.name for table in _reflected(connection)])

    async with empty.alter() as connection:
        before = await connection.run_sync(first)
    assert all(before.values())
    await bring_to_head(empty)
    async with empty.read() as connection:
        after = await connection.run_sync(now)
    for name, rows in before.items():
        kept = [{column: value for column, value in row.items() if column in after[name][0]} for row in rows]
        seen = [{column: row[column] for column in kept[0]} for row in after[name]]
        assert seen == kept, name


def _reflected(connection: Connection) -> list[Table]:
    found = MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if table.name != VERSION_TABLE]


def _row(table: Table) -> dict:
    """One row, the same key everywhere so that foreign keys hold."""
    values = {str: "1", int: 1, float: 1.5, bool: True}
    return {
        column.name: {"a": [1]} if isinstance(column.type, JSON) else values[column.type.python_type]
        for column in table.columns
    }


async def test_whoever_starts_at_the_same_time_finds_it_done(database_url):
    opened = [Database(database_url) for _ in range(4)]
    try:
        await asyncio.gather(*(bring_to_head(database) for database in opened))
        async with opened[0].read() as connection:
            assert (await connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}"))).all() == [(HEAD,)]
    finally:
        await asyncio.gather(*(database.close() for database in opened))


async def test_a_database_without_migrations_is_refused_and_left_alone(empty):
    async with empty.alter() as connection:
        await connection.run_sync(tables.metadata.create_all)
    before = await _schema(empty)
    with pytest.raises(SchemaMismatch, match="no migrations"):
        await bring_to_head(empty)
    assert await _schema(empty) == before
    async with empty.write() as connection:  # and it is not left locked
        await connection.execute(text("DELETE FROM usages"))


async def test_a_database_of_another_version_is_refused(empty):
    await bring_to_head(empty)
    async with empty.alter() as connection:
        await connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = 'later'"))
    with pytest.raises(SchemaMismatch, match="at revision later"):
        await bring_to_head(empty)


async def test_a_migration_that_fails_leaves_nothing(empty, monkeypatch):
    def fail(connection: Connection) -> None:
        running.command.upgrade(running.config(connection), "head")
        raise Transient("in the middle")

    with monkeypatch.context() as patch:
        patch.setattr(running, "upgrade", fail)
        with pytest.raises(Transient):
            await bring_to_head(empty)
    assert await _schema(empty) == {}
    await bring_to_head(empty)
    assert await _schema(empty)


async def test_altering_checks_what_rows_refer_to(empty):
    await bring_to_head(empty)
    broken = "INSERT INTO server_tags (server_id, tag) VALUES ('nobody', 'x')"
    with pytest.raises(Bug if empty.is_sqlite else Exception):
        async with empty.alter() as connection:
            await connection.execute(text(broken))
    async with empty.read() as connection:
        assert not (await connection.execute(text("SELECT * FROM server_tags"))).all()
