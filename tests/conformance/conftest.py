"""Every database that Muster runs on, fresh for each test: `database` is SQLite and PostgreSQL in turn."""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import asyncpg
import pytest

from muster.lab.engines.postgresql import ACCOUNT, initdb_command, server_command, tool
from muster.store.engine import Database
from muster.store.tables import metadata  # noqa: F401 - create_all makes the tables of all modules imported
from tests.engines.fixtures import etcd, rabbitmq, redis, three_etcd  # noqa: F401 - fixtures for all suites here

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0

_names = count()


class Postgres:
    """A private cluster in a directory of its own, reached by a unix socket only."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._account = ACCOUNT if os.geteuid() == 0 else None  # the server refuses to run as root
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self._account:
            entry = pwd.getpwnam(self._account)
            os.chown(self.directory, entry.pw_uid, entry.pw_gid)
        data = self.directory / "data"
        make = initdb_command(data, "--auth=trust", "--no-sync")
        subprocess.run(make, check=True, capture_output=True, **self._as_account())
        settings = {"listen_addresses": "", "unix_socket_directories": str(self.directory), "fsync": "off"}
        command = server_command(data, settings)
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **self._as_account())
        self._await_socket()

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # ends connections, then itself
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    async def create_database(self) -> str:
        """The URL of a new empty database."""
        name = f"muster_{next(_names)}"
        connection = await asyncpg.connect(user="postgres", host=str(self.directory), database="postgres")
        try:
            await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()
        return f"postgresql://postgres@/{name}?host={self.directory}"

    def _await_socket(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        ready = [tool("pg_isready"), "-q", "-h", str(self.directory)]
        while subprocess.run(ready, check=False).returncode != 0:
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("PostgreSQL did not start:\n" + (self.directory / "log").read_text())
            time.sleep(0.05)

    def _as_account(self) -> dict:
        return {"user": self._account, "group": self._account, "extra_groups": []} if self._account else {}


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One cluster per test process (so each worker of pytest-xdist has its own)."""
    directory = Path(tempfile.mkdtemp(prefix="muster-pg-"))
    cluster = Postgres(directory)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)


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
    await opened.create_all()
    try:
        yield opened
    finally:
        await asyncio.shield(opened.close())
