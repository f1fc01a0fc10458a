"""Every database that Muster runs on, fresh for each test: `database` is SQLite and PostgreSQL in turn."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from muster.store.engine import Database
from tests.databases import make_tables, tables_template
from tests.engines.fixtures import etcd, rabbitmq, redis, running, three_etcd  # noqa: F401 - fixtures for all suites here
from tests.engines.postgres import Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One cluster per test process (so each worker of pytest-xdist has its own). Whoever ends it starts it again."""
    with running("pg", Postgres) as cluster:
        yield cluster


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a database without tables."""
    if request.param == "sqlite":
        yield _file(tmp_path)
        return
    cluster = request.getfixturevalue("postgres")
    yield (url := await cluster.create_database())
    await cluster.let_go(url)


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A fresh database with all tables; `url` is where others find it."""
    cluster = None if request.param == "sqlite" else request.getfixturevalue("postgres")
    if cluster is None:
        opened = Database(_file(tmp_path))
        await make_tables(opened)
    else:
        opened = Database(await cluster.create_database(await tables_template(cluster)))
    try:
        yield opened
    finally:
        await asyncio.shield(opened.close())
        if cluster is not None:
            await cluster.let_go(opened.url)


def _file(folder: Path) -> str:
    return f"sqlite:///{folder}/muster.db"
