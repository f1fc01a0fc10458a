"""Databases with tables for tests: copies of one that was made once per process, and once per PostgreSQL server.

Making some sixty tables takes 0.2 CPU seconds, migrating 0.4, a copy next to nothing; more than a thousand tests want
one.
"""

import asyncio
import atexit
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from sqlalchemy import make_url

from muster.store.engine import Database
from muster.store.schema import bring_to_head
from muster.store.tables import metadata
from tests.engines.postgres import Postgres

_templates: dict[Postgres, str] = {}


async def make_tables(database: Database) -> None:
    """Make all tables, in a database that nobody has opened yet. One of SQLite that is there already is left alone."""
    if not database.is_sqlite:
        async with database.alter() as connection:
            await connection.run_sync(metadata.create_all)
        return
    path = make_url(database.url).database
    assert path is not None
    place_database(Path(path))


async def tables_template(cluster: Postgres) -> str:
    """The name of the server's database with all tables, made when it is first asked for: copies of it are cheap."""
    if cluster not in _templates:
        database = Database(await cluster.create_database())
        try:
            await make_tables(database)
        finally:
            await database.close()
        _templates[cluster] = make_url(database.url).database or ""
    return _templates[cluster]


def place_database(path: Path) -> None:
    """Put an empty database of the newest schema there, unless there is one: a cloud that starts need not migrate."""
    if not path.exists():
        shutil.copyfile(_template(), path)


@cache
def _template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="muster-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "muster.db"
    with ThreadPoolExecutor(1) as thread:  # whoever asks may be within an event loop
        thread.submit(lambda: asyncio.run(_migrate(path))).result()
    return path


async def _migrate(path: Path) -> None:
    database = Database(f"sqlite:///{path}")
    await bring_to_head(database)
    await database.close()
