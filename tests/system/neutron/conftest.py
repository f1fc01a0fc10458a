"""Databases for Neutron, each started once per test process; `database` is both in turn."""

from collections.abc import Iterator

import pytest
from tests.engines.fixtures import etcd, folder  # noqa: F401 - a fixture

from benchmarks.neutron_cloud import DATABASES, VENV, MariaDb, PostgreSql

Database = MariaDb | PostgreSql


@pytest.fixture(scope="session", autouse=True)
def _environment() -> None:
    if not (VENV / "bin/uwsgi").exists():
        pytest.fail("there is no Neutron: run scripts/neutron-venv")


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Database]:
    with folder("mariadb") as path:
        server = MariaDb(path)
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Database]:
    with folder("postgresql") as path:
        server = PostgreSql(path)
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session", params=sorted(DATABASES))
def database(request: pytest.FixtureRequest) -> Database:
    """MariaDB and PostgreSQL."""
    server: Database = request.getfixturevalue(request.param)
    return server
