"""A fresh cluster for benchmarks: `muster serve` over PostgreSQL, etcd and RabbitMQ, and hosts apart from it."""

import asyncio
import secrets
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.engines import Engine, a_postgresql, a_rabbitmq, an_etcd
from benchmarks.free_ports import free_ports
from benchmarks.process import family_cpu_s
from benchmarks.stage import Stage, on_stage
from muster.base.tasks import to_its_end
from muster.bench.launch import Launch, stop, until
from muster.client.api import Call
from muster.client.cloud import Service

_HOSTS_S = 600.0  # RabbitMQ makes a queue for each, and thousands take minutes


class Cluster(msgspec.Struct, frozen=True):
    """Its API, its database, and where its workers and its hosts tell their metrics."""

    stage: Stage
    database: Engine
    metrics_ports: tuple[int, ...]
    hosts_metrics_port: int

    @property
    def cpu_s(self) -> float:
        """What all its workers have used."""
        return family_cpu_s(self.stage.process.pid)

    def metrics(self) -> dict[str, float]:
        """Every sample of the workers' metrics, name and labels as Prometheus writes them, added up. Blocking."""
        found: dict[str, float] = {}
        for port in self.metrics_ports:
            for name, value in _samples(port).items():
                found[name] = found.get(name, 0.0) + value
        return found

    def hosts_metrics(self) -> dict[str, float]:
        """As `metrics`, of the process of all simulated hosts. Blocking."""
        return _samples(self.hosts_metrics_port)


def _samples(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


class HostCount(msgspec.Struct, frozen=True):
    """How many hosts there are."""

    count: int


class Statistics(msgspec.Struct, frozen=True):
    """Answer of `GET /os-hypervisors/statistics`."""

    hypervisor_statistics: HostCount


@asynccontextmanager
async def a_cluster(workers: int, sim_hosts: int = 0) -> AsyncIterator[Cluster]:
    """So many workers, and simulated hosts in one process of their own; gone at the end of the block."""
    with TemporaryDirectory(prefix="muster-benchmark-") as folder:
        async with a_postgresql() as database, an_etcd() as locks, a_rabbitmq() as bus:
            port = free_ports(workers + 1)
            settings = Path(folder) / "muster.toml"
            settings.touch(mode=0o600)
            settings.write_text(
                f'folder = "{folder}"\nsecret = "{secrets.token_hex(32)}"\n[engines]\n'
                f'database_url = "{database.url}"\nlocks_url = "{locks.url}"\nbus_url = "{bus.url}"\n'
                f"[serve]\nmetrics_port = {port}\n[host]\nmetrics_port = {port + workers}\n"
            )
            told = ("--settings", str(settings), "--workers", str(workers), "--port", "0")
            async with on_stage(Launch(arguments=("-m", "muster", "serve", *told), folder=Path(folder))) as stage:
                await stage.ensure_image()
                cluster = Cluster(stage, database, tuple(range(port, port + workers)), port + workers)
                if not sim_hosts:
                    yield cluster
                    return
                async with _hosts(stage, settings, sim_hosts):
                    yield cluster


@asynccontextmanager
async def _hosts(stage: Stage, settings: Path, sim_hosts: int) -> AsyncIterator[None]:
    with (settings.parent / "hosts.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "muster", "host", "--settings", str(settings), "--sim-hosts", str(sim_hosts)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    call = Call("GET statistics", "GET", Service.COMPUTE, "/os-hypervisors/statistics")

    async def all_there() -> bool:
        return (await stage.api.get(call, Statistics)).hypervisor_statistics.count == sim_hosts

    try:
        await until(all_there, "the hosts are there", timeout_s=_HOSTS_S)
        yield
    finally:
        await to_its_end(stop(process))
