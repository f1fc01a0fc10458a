"""A PostgreSQL server of one's own, which can be stopped in every way and started again."""

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import make_url

from muster.lab.engines.postgresql import ACCOUNT, PORT, initdb_command, server_command, tool
from tests.engines.processes import START_TIMEOUT_S, STOP_TIMEOUT_S

#: Options of a URL for who waits longer than a busy machine takes for anything, where that is not what is tested.
PATIENT = "patience_s=240&queue_s=240&connect_s=60&doubt_s=240"

_names = count()


class Postgres:
    """A private cluster in a directory of its own, reached by a unix socket, and on a `port` of loopback if told to."""

    def __init__(self, directory: Path, port: int | None = None, settings: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.port = port
        self._settings = settings or {}
        self._is_in_memory = directory.is_relative_to("/dev/shm")
        self._account = ACCOUNT if os.geteuid() == 0 else None  # the server refuses to run as root
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make the cluster and start it."""
        self._own()
        command = initdb_command(self.directory / "data", "--auth=trust", "--no-sync")
        subprocess.run(command, check=True, capture_output=True, timeout=START_TIMEOUT_S, **self._as_account())
        self.launch()

    def follow(self, primary: "Postgres") -> None:
        """Make this cluster a standby of another, which is on TCP, and start it."""
        self._own()
        source = ("-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres", "-R", "--checkpoint=fast", "--no-sync")
        command = [tool("pg_basebackup"), "-D", str(self.directory / "data"), *source]
        subprocess.run(command, check=True, capture_output=True, timeout=START_TIMEOUT_S, **self._as_account())
        self.launch()

    def launch(self) -> None:
        """Start the server of a cluster that is there."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._launched():
            # Processes of a killed server may still be at their end: they hold its shared memory.
            if time.monotonic() > deadline:
                raise RuntimeError("PostgreSQL did not start:\n" + (self.directory / "log").read_text())
            time.sleep(0.1)

    def _launched(self) -> bool:
        settings = {"listen_addresses": "", "unix_socket_directories": str(self.directory), "fsync": "off"}
        if self._is_in_memory:
            settings |= {"max_wal_size": "64MB", "min_wal_size": "32MB"}
        if self.port:
            settings |= {"listen_addresses": "127.0.0.1", "port": str(self.port)}
        settings |= self._settings
        command = server_command(self.directory / "data", settings)
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **self._as_account())
        deadline = time.monotonic() + START_TIMEOUT_S
        ready = [tool("pg_isready"), "-q", "-h", str(self.directory), "-p", str(self.port or PORT)]
        while subprocess.run(ready, check=False, timeout=START_TIMEOUT_S).returncode != 0:
            if self._process.poll() is not None:
                return False
            if time.monotonic() > deadline:
                raise RuntimeError("PostgreSQL did not start:\n" + (self.directory / "log").read_text())
            time.sleep(0.05)
        return True

    @property
    def pid(self) -> int:
        """The postmaster's."""
        assert self._process is not None
        return self._process.pid

    def close(self) -> None:
        """End it: its connections first, then itself."""
        self.end(signal.SIGINT)

    def end(self, number: signal.Signals) -> None:
        """End it by a signal: SIGINT (fast), SIGQUIT (immediate: it recovers at its next start), SIGKILL."""
        if self._process is not None:
            self._process.send_signal(number)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    async def create_database(self, template: str = "template1") -> str:
        """The URL of a new database, empty or a copy of a template that nobody is connected to."""
        name = f"muster_{next(_names)}"
        await self._ask(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    async def let_go(self, url: str) -> None:
        """A database that `create_database` made is not wanted any more.

        In memory it is removed at once, whoever is connected. On a disk that takes three times as long as making it, so
        it stays until the cluster's folder goes.
        """
        if self._is_in_memory:
            await self._ask(f'DROP DATABASE "{make_url(url).database}" WITH (FORCE)')

    async def _ask(self, statement: str) -> None:
        connection = await self.connect("postgres")
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def url(self, name: str) -> str:
        if self.port:
            return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"
        return f"postgresql://postgres@/{name}?host={self.directory}"

    async def connect(self, name: str) -> Any:
        """A connection of the driver's, for a look from outside."""
        return await asyncpg.connect(user="postgres", host=str(self.directory), port=self.port or PORT, database=name)

    def _own(self) -> None:
        if self._account:
            entry = pwd.getpwnam(self._account)
            os.chown(self.directory, entry.pw_uid, entry.pw_gid)

    def _as_account(self) -> dict[str, Any]:
        return {"user": self._account, "group": self._account, "extra_groups": []} if self._account else {}
