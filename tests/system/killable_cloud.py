"""A cloud in a process that a test may kill at any moment and start again on the same folder."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from tests.audit import http, ledger

START_S = 300.0
SETTLE_S = 300.0


class KillableCloud:
    """`muster up` on a folder. `token` outlives the processes, as its keys do."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.base_url = ""
        self.token = ""
        self.kills = 0
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None

    @property
    def database(self) -> Path:
        return self.folder / "muster.db"

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start, or start again, and wait until it says that it is ready."""
        await self.spawn()
        assert await self.ready(), f"the cloud did not start: {self.log()[-4000:]}"

    async def spawn(self) -> None:
        """Start the process, and no more."""
        command = ["-m", "muster", "up", "--data", str(self.folder), "--port", "0", *self._arguments]
        with (self.folder.parent / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *command, stdout=asyncio.subprocess.PIPE, stderr=log, start_new_session=True
            )

    async def ready(self) -> bool:
        """Wait until the process says that it is ready; False if it ends instead."""
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(START_S):
            line = await self._process.stdout.readline()
        if b"ready at" not in line:
            return False
        self.base_url = line.decode().rsplit(" ", 1)[1].strip()
        if not self.token:
            clouds = yaml.safe_load((self.folder / "clouds.yaml").read_text())
            self.token = await http.log_in(self.base_url, clouds["clouds"]["muster"]["auth"]["password"])
        return True

    def kill(self) -> None:
        """kill -9, now."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self.kills += 1

    async def gone(self) -> None:
        """Wait until the killed process is no more."""
        if self._process is not None:
            await self._process.wait()

    def log(self) -> str:
        return (self.folder.parent / "log").read_text(errors="replace")

    async def ask(self, method: str, path: str, body: Any = None, version: str | None = None) -> http.Answer:
        return await http.ask(self.base_url, method, path, body, token=self.token, version=version)

    async def servers(self) -> list[dict[str, Any]]:
        return await http.servers(self.base_url, self.token)

    async def at_rest(self) -> None:
        """Wait until nothing is on its way any more, or the process is dead."""
        deadline = time.monotonic() + SETTLE_S
        while self.alive and (waiting := ledger.restless(self.database)):
            assert time.monotonic() < deadline, f"never at rest: {waiting}\n{self.log()[-4000:]}"
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        await self.gone()


@asynccontextmanager
async def killable_cloud(folder: Path, *arguments: str) -> AsyncIterator[KillableCloud]:
    """A cloud that has started; whatever runs of it at the end is killed."""
    folder.mkdir(parents=True)
    cloud = KillableCloud(folder / "cloud", *arguments)
    try:
        await cloud.start()
        yield cloud
    finally:
        await cloud.stop()
