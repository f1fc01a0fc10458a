"""A cluster's processes as an operator starts them: `muster serve` and `muster host` over real engines."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import yaml
from tests.audit import http
from tests.engines.etcd import Etcd
from tests.engines.postgres import Postgres
from tests.engines.rabbitmq import RabbitMq

READY_S = 300.0
END_S = 300.0
WAIT_S = 300.0

SECRET = "s" * 40

_names = count()


class Command:
    """A `muster` command that says when it is ready; `log` is what it wrote to standard error."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self.log = log
        self.base_url = ""
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start it, and no more."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "muster", *self._arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    async def ready(self) -> str:
        """The line by which it says that it is ready."""
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(READY_S):
            line = (await self._process.stdout.readline()).decode()
        assert "ready" in line, f"it did not start: {self.said()}"
        self.base_url = line.rsplit(" ", 1)[1].strip()
        return line

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def ended(self) -> int:
        """Its exit status, once it has ended by itself."""
        assert self._process is not None
        async with asyncio.timeout(END_S):
            return await self._process.wait()

    async def close(self) -> None:
        """Nothing of it runs any more."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def workers(self) -> list[int]:
        """The processes that it has started."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]


class Cluster:
    """Engines, and the processes over them; `folder` holds all that is made."""

    def __init__(self, folder: Path, engines: dict[str, str]) -> None:
        self.folder = folder
        self._engines = engines
        self.database_url = engines["database_url"]
        self._commands: list[Command] = []

    def settings(self, name: str, **sections: dict[str, Any]) -> Path:
        """A settings file for one machine, whose folder is its own."""
        machine = self.folder / name
        machine.mkdir(mode=0o700, exist_ok=True)
        merged: dict[str, dict[str, Any]] = {"engines": {**self._engines}}
        for section, values in sections.items():
            merged.setdefault(section, {}).update(values)
        lines = [f'folder = "{machine / "state"}"', f'secret = "{SECRET}"']
        for section, values in merged.items():
            lines += [f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
        path = machine / "muster.toml"
        path.touch(mode=0o600)
        path.write_text("\n".join(lines) + "\n")
        return path

    async def serve(self, name: str, *, workers: int = 2, port: int = 0, **serve: Any) -> Command:
        """The workers of one machine, started. `port` 0: any free one."""
        path = self.settings(name, serve={"workers": workers, "drain_s": 20, **serve})
        return await self.command(name, "serve", "--settings", str(path), "--port", str(port))

    async def host(self, name: str, sim_hosts: int, first_index: int = 0, **host: Any) -> Command:
        """Simulated hosts, started."""
        path = self.settings(name, host=host)
        numbers = ("--sim-hosts", str(sim_hosts), "--first-index", str(first_index))
        return await self.command(name, "host", "--settings", str(path), *numbers)

    async def command(self, name: str, *arguments: str) -> Command:
        command = Command(self.folder / name / f"{arguments[0]}.log", *arguments)
        self._commands.append(command)
        await command.start()
        return command

    def password(self, name: str) -> str:
        """The administrator's password, as a machine's clouds.yaml has it."""
        clouds = yaml.safe_load((self.folder / name / "state" / "clouds.yaml").read_text())
        return clouds["clouds"]["muster"]["auth"]["password"]

    async def close(self) -> None:
        await asyncio.gather(*(command.close() for command in self._commands))


@asynccontextmanager
async def cluster_of(folder: Path, postgres: Postgres, etcd: Etcd, rabbitmq: RabbitMq) -> AsyncIterator[Cluster]:
    """A cluster without processes yet; whatever runs of it at the end is killed."""
    name = f"serve{os.getpid()}x{next(_names)}"
    engines = {
        "database_url": await postgres.create_database(),
        "locks_url": f"etcd://{etcd.endpoints}/{name}?lease_s=10",
        "bus_url": f"{rabbitmq.url}?prefix={name}.",
    }
    cluster = Cluster(folder, engines)
    try:
        yield cluster
    finally:
        await cluster.close()


async def until(holds: Callable[[], Any], what: str, within_s: float = WAIT_S) -> None:
    """Wait until `holds` says so, looking often."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within_s
    while True:
        found = holds()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert loop.time() < end, f"never: {what}"
        await asyncio.sleep(0.1)


async def log_in(cluster: Cluster, machine: Command, name: str) -> str:
    """A token got at one machine."""
    return await http.log_in(machine.base_url, cluster.password(name))


def _toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str | Path) else str(value).lower()
