"""Every database that Muster runs on, fresh for each test: `database` is SQLite and PostgreSQL in turn."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from muster.store.engine import Database
from muster.store.tables import metadata  # noqa: F401 - create_all makes the tables of all modules imported
from tests.databases import make_tables
from tests.engines.fixtures import etcd, rabbitmq, redis, running, three_etcd  # noqa: F401 - fixtures for all suites here
from tests.engines.postgres import Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One cluster per test process (so each worker of pytest-xdist has its own). Whoever ends it starts it again."""
    with running("pg", Postgres) as cluster:
        yield cluster


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/muster.db"
    return await request.getfixturevalue("postgres").create_database()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A fresh database with all tables."""
    opened = Database(database_url)
    await make_tables(opened)
    try:
        yield opened
    finally:
        await asyncio.shield(opened.close())
