"""Migrations run while workers of the version before still serve: what those do works before, meanwhile and after."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, MetaData, make_url, select, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.exc import SQLAlchemyError as SqlError

from muster.base.errors import Stale
from muster.lab.engines.postgresql import PORT, tool
from muster.store import schema
from muster.store.engine import Database, Locked
from muster.store.migrations import running
from muster.store.networks import networks
from muster.store.schema import VERSION_TABLE, bring_to_head
from muster.store.tables import metadata
from tests.engines.postgres import Postgres

from .pictures import rows_of
from .test_migrations import _row

HANG_S = 300.0
RULE = (
    "A migration may only add: tables, columns that are nullable or have a server default, indexes. Workers of the "
    "version before still run on it. What they still use is dropped, renamed or tightened one release later; such a "
    "revision is named in CONTRACTS."
)
# Revisions that take away what the release before does not use any more, each with that release.
CONTRACTS: dict[str, str] = {}


@pytest.fixture
async def empty(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    yield opened
    await asyncio.shield(opened.close())


def tables_of(connection: Connection) -> MetaData:
    """The tables as a worker of this revision knows them."""
    found = MetaData()
    found.reflect(connection)
    found.remove(found.tables[VERSION_TABLE])
    for table in found.tables.values():  # in the order in which a row needs another, whatever keeps that true
        for key in metadata.tables[table.name].foreign_keys if table.name in metadata.tables else ():
            parent = key.column.table.name
            if parent != table.name and parent in found.tables:
                table.add_is_dependent_on(found.tables[parent])
    return found


def work(connection: Connection, known: MetaData) -> None:
    """What such a worker does to each table, one after the other: insert, read, change, delete."""
    for table in known.sorted_tables:
        connection.execute(table.insert().values(_row(table)))
    for table in known.sorted_tables:
        [row] = connection.execute(select(table)).mappings()
        if changed := {name: row[name] for name in row if not table.c[name].primary_key}:
            connection.execute(table.update().values(changed))
    for table in reversed(known.sorted_tables):
        connection.execute(table.delete())


@pytest.mark.parametrize("index", range(1, len(running.revisions())))
async def test_the_version_before_works_on_each_revision(empty: Database, index: int) -> None:
    before, after = running.revisions()[index - 1 : index + 1]
    if after in CONTRACTS:
        return

    def upgrade_and_work(connection: Connection) -> None:
        running.upgrade(connection, before)
        known = tables_of(connection)
        running.upgrade(connection, after)
        try:
            work(connection, known)
        except SqlError as error:
            pytest.fail(f"{RULE}\nRevision {after}: {error}")

    async with empty.alter() as connection:
        await connection.run_sync(upgrade_and_work)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE networks DROP COLUMN description",
        "ALTER TABLE networks RENAME COLUMN description TO remark",
        "ALTER TABLE keypairs RENAME TO keys",
        "ALTER TABLE networks ADD COLUMN weight INTEGER NOT NULL",
        "CREATE TABLE keypairs_of_users AS SELECT * FROM keypairs; DROP TABLE keypairs",
    ],
)
async def test_what_is_not_allowed_is_noticed(empty: Database, change: str) -> None:
    """The check above, on migrations that would break workers of the version before."""
    await bring_to_head(empty)
    if empty.is_sqlite and "NOT NULL" in change:
        return  # SQLite refuses it itself

    def do(connection: Connection) -> None:
        known = tables_of(connection)
        for statement in change.split("; "):
            connection.execute(text(statement))
        with pytest.raises(DatabaseError):
            work(connection, known)
        raise NotImplementedError

    with pytest.raises(NotImplementedError):
        async with empty.alter() as connection:
            await connection.run_sync(do)


async def _at_first(database: Database) -> None:
    async with database.alter() as connection:
        await connection.run_sync(running.upgrade, running.revisions()[0])


@pytest.fixture
async def two(postgres: Postgres) -> AsyncIterator[tuple[Database, Database]]:
    """A database of the first version, with a worker of it, and the first one of this version."""
    url = await postgres.create_database()
    opened = Database(url), Database(url)
    await _at_first(opened[0])
    yield opened
    await asyncio.gather(*(one.close() for one in opened))


async def _read(database: Database) -> float:
    """Read a table that a migration changes; how long that took."""
    began = time.monotonic()
    async with database.read() as connection:
        await connection.execute(select(networks.c.id, networks.c.name))
    return time.monotonic() - began


async def test_a_migration_that_waits_for_a_table_keeps_others_waiting_for_a_moment_only(
    two: tuple[Database, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = two
    monkeypatch.setattr(schema, "_LOCK_MS", 300)
    monkeypatch.setattr(schema, "_TURNS", 1_000)
    async with asyncio.timeout(HANG_S):
        async with old.hold() as connection:
            await connection.execute(select(networks.c.id))  # and it goes on for long
            migrating = asyncio.create_task(bring_to_head(new))
            took = []
            while len(took) < 40 or max(took) < 0.1:  # until one had to wait
                took.append(await _read(old))
                await asyncio.sleep(0.02)
            assert not migrating.done()
        await migrating
    assert max(took) < 60  # on a machine however busy; without the limit it is for ever


async def test_a_table_that_is_used_for_ever_is_said(
    two: tuple[Database, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = two
    monkeypatch.setattr(schema, "_LOCK_MS", 100)
    monkeypatch.setattr(schema, "_TURNS", 2)
    async with old.hold() as connection:
        await connection.execute(select(networks.c.id))
        with pytest.raises(Locked):
            await bring_to_head(new)
    await bring_to_head(new)


async def test_an_old_workers_prepared_statements_survive(two: tuple[Database, Database]) -> None:
    old, new = two
    await _read(old)
    await bring_to_head(new)
    await _read(old)


async def test_a_plan_that_a_migration_made_invalid_is_decided_again(two: tuple[Database, Database]) -> None:
    old, new = two

    async def read() -> None:
        async with old.read() as connection:
            await connection.execute(select(networks.c.id, networks.c.mtu))

    await read()
    async with new.alter() as connection:
        await connection.execute(text("ALTER TABLE networks ALTER COLUMN mtu TYPE bigint"))
    work: Callable[[], Awaitable[None]] = read
    with pytest.raises(Stale):
        await work()
    await work()


async def test_a_backup_from_before_an_upgrade_is_restored_as_the_operators_page_says(
    postgres: Postgres, tmp_path: Path
) -> None:
    """`pg_restore --clean` stumbled over tables that the backup does not know, and left half of each."""
    database_url = await postgres.create_database()
    name = str(make_url(database_url).database)

    def ask(program: str, user: str, *words: str) -> None:
        login = ("-h", str(postgres.directory), "-p", str(postgres.port or PORT), "-U", user)
        subprocess.run([tool(program), *login, *words], check=True, capture_output=True, timeout=HANG_S)

    owner = (f'CREATE ROLE "{name}" LOGIN', f'ALTER DATABASE "{name}" OWNER TO "{name}"')
    ask("psql", "postgres", "-d", name, "-c", owner[0], "-c", owner[1])
    database = Database(database_url.replace("postgres@", f"{name}@"))
    dump = str(tmp_path / "muster.dump")
    async with database.alter() as connection:
        await connection.run_sync(running.upgrade, running.revisions()[0])
        before = await connection.run_sync(_filled)
    await asyncio.to_thread(ask, "pg_dump", name, "-Fc", "-f", dump, name)
    await bring_to_head(database)
    await database.close()

    ask("psql", name, "-d", name, "-c", f'DROP OWNED BY "{name}"')
    ask("pg_restore", name, "--single-transaction", "-d", name, dump)
    database = Database(database_url.replace("postgres@", f"{name}@"))
    await bring_to_head(database)  # as `muster restored` does
    async with database.read() as connection:
        after = await connection.run_sync(lambda sync: rows_of(sync, list(before)))
    await database.close()
    assert before.keys() == after.keys()
    assert all(len(rows) == len(before[table]) == 1 for table, rows in after.items())


def _filled(connection: Connection) -> dict[str, list[dict[str, object]]]:
    known = tables_of(connection)
    for table in known.sorted_tables:
        connection.execute(table.insert().values(_row(table)))
    return rows_of(connection, list(known.tables))
