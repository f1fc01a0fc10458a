"""A cluster's engines for benchmarks: PostgreSQL, etcd and RabbitMQ, each private, on this machine and durable.

PostgreSQL is reached by a unix socket alone, the others on free ports of loopback. All keep their defaults of
durability: every commit is on the disk before it is answered. At the end of the block they are gone.
"""

import asyncio
import os
import pwd
import secrets
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import asyncpg
import msgspec

from benchmarks.free_ports import free_port
from benchmarks.process import family_cpu_s
from muster.base.errors import Transient
from muster.base.tasks import to_its_end
from muster.bench.launch import tail
from muster.lab.engines import etcd, postgresql, rabbitmq

_LOOKS, _LOOK_S = 600, 0.1
_STOP_S = 20.0
_POSTGRES = {
    "listen_addresses": "",
    "max_connections": "300",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
}


class Engine(msgspec.Struct, frozen=True):
    """A running engine: `url` as `CloudSettings` takes it, and its first process."""

    url: str
    pid: int

    @property
    def cpu_s(self) -> float:
        """What it has used, all its processes together."""
        return family_cpu_s(self.pid)


@asynccontextmanager
async def a_postgresql() -> AsyncIterator[Engine]:
    """A PostgreSQL with one empty database. Raises Transient when it does not start, Unsupported if there is none."""
    with tempfile.TemporaryDirectory(prefix="muster-benchmark-pg-", ignore_cleanup_errors=True) as folder:
        account = _account(Path(folder))
        data = Path(folder) / "data"
        await _finished([*account, *postgresql.initdb_command(data, "--auth=trust", "--no-sync")])
        command = postgresql.server_command(data, {**_POSTGRES, "unix_socket_directories": folder})

        async def ready() -> bool:
            return (await _status([postgresql.tool("pg_isready"), "-q", "-h", folder])) == 0

        async with _running([*account, *command], Path(folder) / "log", ready, signal.SIGINT) as pid:
            yield Engine(await _new_database(folder), pid)


@asynccontextmanager
async def an_etcd() -> AsyncIterator[Engine]:
    """An etcd of one member. Raises Transient when it does not start, Unsupported when it is not installed."""
    with tempfile.TemporaryDirectory(prefix="muster-benchmark-etcd-", ignore_cleanup_errors=True) as folder:
        member = etcd.EtcdMember(name="one", address="127.0.0.1", client_port=free_port(), peer_port=free_port())

        async def ready() -> bool:
            return (
                await _status(["env", "ETCDCTL_API=3", *etcd.ctl_command([member.endpoint], "endpoint", "health")])
            ) == 0

        command = etcd.member_command(member, [member], Path(folder) / "data")
        async with _running(command, Path(folder) / "log", ready, signal.SIGTERM) as pid:
            yield Engine(f"etcd://{member.endpoint}", pid)


@asynccontextmanager
async def a_rabbitmq() -> AsyncIterator[Engine]:
    """A RabbitMQ broker. Raises Transient when it does not start, Unsupported when it is not installed."""
    with tempfile.TemporaryDirectory(prefix="muster-benchmark-mq-", ignore_cleanup_errors=True) as name:
        folder, port, password = Path(name), free_port(), secrets.token_hex(16)
        rabbitmq.write_configuration(folder, "muster", password)
        node = rabbitmq.Broker(
            name=f"muster{port}",
            folder=folder,
            address="127.0.0.1",
            port=port,
            distribution_port=free_port(),
            mapper_port=free_port(),
        )
        environment = node.environment(os.environ["PATH"])
        end = signal.SIGKILL  # nothing of it is wanted afterwards, and to end in order takes it ten seconds
        async with (
            _running(node.mapper_command(), folder / "epmd.log", partial(_answers, node.mapper_port), end, environment),
            _running(rabbitmq.server_command(), folder / "log", partial(_answers, port), end, environment) as pid,
        ):
            yield Engine(f"amqp://muster:{password}@127.0.0.1:{port}", pid)


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def _account(folder: Path) -> list[str]:
    """The beginning of PostgreSQL's commands: it refuses to be root."""
    if os.geteuid() != 0:
        return []
    entry = pwd.getpwnam(postgresql.ACCOUNT)
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    return ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]


async def _new_database(folder: str) -> str:
    connection = await asyncpg.connect(user="postgres", host=folder, database="postgres")
    try:
        await connection.execute("CREATE DATABASE muster")
    finally:
        await connection.close()
    return f"postgresql://postgres@/muster?host={folder}"


@asynccontextmanager
async def _running(
    command: Sequence[str],
    log: Path,
    ready: Callable[[], Awaitable[bool]],
    end: signal.Signals,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[int]:
    """The process, in a session of its own, from when it is ready to the end of the block."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
    try:
        for _ in range(_LOOKS):
            if process.returncode is not None:
                raise Transient(f"{command[0]} ended; it said: {tail(log)}")
            if await ready():
                break
            await asyncio.sleep(_LOOK_S)
        else:
            raise Transient(f"{command[0]} does not get ready; it said: {tail(log)}")
        yield process.pid
    finally:
        await to_its_end(_ended(process, end))


async def _ended(process: asyncio.subprocess.Process, end: signal.Signals) -> None:
    if process.returncode is not None:
        return
    os.killpg(process.pid, end)  # what it has started, too
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _finished(command: Sequence[str]) -> None:
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, said = await process.communicate()
    if process.returncode != 0:
        raise Transient(f"{command[0]} failed: {said.decode(errors='replace')}")


async def _status(command: Sequence[str]) -> int:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait()
