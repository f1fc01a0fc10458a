"""Does a server cost the same when the cloud holds many, on many hosts? The next thousand, one alone, a page, one
server, a host's resync; first in a cloud of a thousand servers with as many on each host.

What lies between is filled by requests for thousands of servers at once. A host's resync is what its Hello costs the
control plane: this process takes it in over the same database, for a host that has the same number of servers all the
time, and keeps the answer to itself.

The cloud is one process on SQLite, hosts included. With `MUSTER_BENCH_DATABASE=postgresql` it is one worker of `muster
serve` with etcd and RabbitMQ, its hosts are in a process that is not counted, and PostgreSQL's CPU is counted with the
worker's.
"""

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from statistics import median

import msgspec

from benchmarks.cluster import a_cluster
from benchmarks.outcome import Aim, Grid, Outcome, machine
from benchmarks.process import family_cpu_s, family_threads_cpu_s
from benchmarks.progress import Teller
from benchmarks.resync import Resync, Resyncs
from benchmarks.stage import Stage, a_cloud
from muster.base.errors import Invalid
from muster.bench.options import Phase, ServersOptions
from muster.bench.records import ServersResult
from muster.bench.run import run_servers
from muster.cli.cloud import DATABASE
from muster.client.api import Call
from muster.client.cloud import Service

YARDSTICK = (
    "for the next thousand: the first thousand on as many hosts; else: a cloud with 1,000 servers; in the same run "
)
COUNTED = {
    "sqlite": "(CPU of the whole cloud's process, its hosts included)",
    "postgresql": "(CPU of a worker of `muster serve` and of PostgreSQL, hosts not included)",
}
LARGE, HOSTS, KIND = "MUSTER_BENCH_SERVERS", "MUSTER_BENCH_HOSTS", "MUSTER_BENCH_DATABASE"
MOST = 1.3
# The host that is asked about, and how many servers it has from the beginning: no host of the run gets more.
_HOST, _ON_HOST = 0, 20
_AT_ONCE = 5_000


class Sizes(msgspec.Struct, frozen=True):
    """`step` servers are measured when there are none, and at each of these shares of `servers`."""

    servers: int = 20_000
    step: int = 1_000
    hosts: int = 1_000
    reads: int = 30
    shares: tuple[float, ...] = (0.25, 0.5, 1.0)


QUICK = Sizes(servers=120, step=40, hosts=10, reads=3, shares=(1.0,))


class Place(msgspec.Struct, frozen=True):
    """A cloud, its database, and the processes whose CPU is counted, with their children."""

    stage: Stage
    database_url: str
    pids: tuple[int, ...]

    @property
    def cpu_s(self) -> float:
        """What they have used, also those that have ended."""
        return sum(map(family_cpu_s, self.pids))

    @property
    def fine_cpu_s(self) -> float:
        """The same to the nanosecond, of those that are there."""
        return sum(map(family_threads_cpu_s, self.pids))


@asynccontextmanager
async def a_place(kind: str, hosts: int) -> AsyncIterator[Place]:
    """A fresh cloud on a database of this kind."""
    if kind == "sqlite":
        async with a_cloud(hosts) as stage:
            folder = stage.process.clouds_yaml.parent
            yield Place(stage, f"sqlite:///{folder / DATABASE}", (stage.process.pid,))
    else:
        async with a_cluster(1, hosts) as cluster:
            yield Place(cluster.stage, cluster.database.url, (cluster.stage.process.pid, cluster.database.pid))


class Step(msgspec.Struct, frozen=True):
    """One step: servers there are after it, what each of its own cost, made at once or one by one, and what reading and
    a resync cost then."""

    hosts: int
    servers: int
    failed: int
    cpu_ms: float
    wall_ms: float
    alone_ms: float
    page_ms: float
    show_ms: float
    resync: Resync


async def run(teller: Teller, quick: bool) -> Outcome:
    """The whole benchmark."""
    began, where, sizes, kind = time.monotonic(), machine(), QUICK if quick else _full(), _kind()
    small = msgspec.structs.replace(sizes, servers=sizes.step, hosts=max(1, sizes.step // _ON_HOST), shares=())
    steps, lost = [], 0
    for each in (small, sizes):
        with teller.steps(f"{each.servers:,} servers on {each.hosts:,} hosts", each.servers) as advance:
            found, failed = await _grown(kind, each, advance)
        steps += found
        lost += failed
    return Outcome(
        name="servers-scale",
        quick=quick,
        yardstick=YARDSTICK + COUNTED[kind],
        machine=where,
        duration_s=time.monotonic() - began,
        grids=[_grid(steps, sizes)],
        aims=_aims(steps, lost),
        notes=[
            f"on {kind}; {KIND}=postgresql is a worker on PostgreSQL",
            f"{LARGE}=100000 goes as far as 100,000 servers on 5,000 hosts",
        ],
    )


async def _grown(kind: str, sizes: Sizes, advance: Callable[[int], None]) -> tuple[list[Step], int]:
    """A cloud that grows to its size: what was measured on the way, and how many servers of the others were lost."""
    steps: list[Step] = []
    async with a_place(kind, sizes.hosts) as place, Resyncs.over(place.database_url, _HOST) as resyncs:
        await place.stage.network("many", 2 * sizes.servers)
        lost = (await _servers(place, _ON_HOST, zone=f"nova:{resyncs.hostname}")).lost
        there = _ON_HOST
        for share in (0.0, *sizes.shares):
            while (missing := int(share * sizes.servers) - sizes.step - there) > 0:
                count = min(missing, _AT_ONCE)
                lost += (await _servers(place, count, batch=True)).lost
                there += count
                advance(count)
            steps.append(await _step(place, resyncs, sizes, there + sizes.step))
            there += sizes.step + sizes.reads
            advance(sizes.step)
    return steps, lost


def _full() -> Sizes:
    servers = int(os.environ.get(LARGE, Sizes().servers))
    hosts = int(os.environ.get(HOSTS, servers // _ON_HOST))
    return Sizes(servers=servers, hosts=max(1, hosts))


def _kind() -> str:
    kind = os.environ.get(KIND) or "sqlite"
    if kind not in COUNTED:
        raise Invalid(f"{KIND}={kind!r} is none of {', '.join(COUNTED)}")
    return kind


async def _servers(
    place: Place, count: int, *, batch: bool = False, concurrency: int | None = None, zone: str | None = None
) -> "_Made":
    options = ServersOptions(
        count=count,
        concurrency=concurrency,
        phases=(Phase.CREATE,),
        keep=True,
        batch=batch,
        flavor="m1.tiny",
        network="many",
        availability_zone=zone,
        cloud="muster",
        config_files=(str(place.stage.process.clouds_yaml),),
    )
    before_s = place.cpu_s
    result = await run_servers(options)
    return _Made(result, place.cpu_s - before_s)


class _Made(msgspec.Struct, frozen=True):
    """What became of some servers, and what the cloud's process used meanwhile."""

    result: ServersResult
    cpu_s: float

    @property
    def per_s(self) -> float:
        return next(figure.per_s for figure in self.result.figures if figure.name == "create") or 0.0

    @property
    def lost(self) -> int:
        return next(figure.total - figure.ok for figure in self.result.figures if figure.name == "create")


async def _step(place: Place, resyncs: Resyncs, sizes: Sizes, there: int) -> Step:
    made = await _servers(place, sizes.step)
    one = made.result.servers[sizes.step // 2].id
    page = await _cpu_ms(place, "/servers/detail?limit=100", sizes.reads)
    show = await _cpu_ms(place, f"/servers/{one}", sizes.reads)
    alone = await _servers(place, sizes.reads, concurrency=1)
    return Step(
        hosts=sizes.hosts,
        servers=there,
        failed=made.lost + alone.lost,
        cpu_ms=1000 * made.cpu_s / sizes.step,
        wall_ms=1000 / made.per_s if made.per_s else float("inf"),
        alone_ms=1000 * alone.cpu_s / sizes.reads,
        page_ms=page,
        show_ms=show,
        resync=await resyncs.measured(sizes.reads),
    )


async def _get(stage: Stage, path: str) -> None:
    await stage.api.send(Call(f"GET {path}", "GET", Service.COMPUTE, path))


async def _cpu_ms(place: Place, path: str, times: int) -> float:
    """CPU milliseconds of the cloud for one GET: the median of so many, one after the other."""
    used = []
    for _ in range(times):
        before_s = place.fine_cpu_s
        await _get(place.stage, path)
        used.append(1000 * (place.fine_cpu_s - before_s))
    return median(used)


def _grid(steps: list[Step], sizes: Sizes) -> Grid:
    rows: list[list[str | float]] = [
        [
            f"{step.servers:,}",
            f"{step.hosts:,}",
            step.cpu_ms,
            step.wall_ms,
            step.alone_ms,
            step.page_ms,
            step.show_ms,
            step.resync.servers,
            step.resync.wall_ms,
            step.resync.cpu_ms,
        ]
        for step in steps
    ]
    columns = [
        "servers there",
        "hosts",
        "CPU ms per server",
        "wall ms",
        "CPU ms of one made alone",
        "of a page of 100",
        "of showing one",
        "a host's servers",
        "its resync, ms",
        "CPU ms",
    ]
    return Grid(f"{sizes.step:,} more servers at once", columns, rows)


def _aims(steps: list[Step], lost: int) -> list[Aim]:
    small, first, last = steps[0], steps[1], steps[-1]
    ratios = [
        ("CPU per server of the next thousand", last.cpu_ms / first.cpu_ms),
        ("CPU of a server made alone", last.alone_ms / small.alone_ms),
        ("CPU of a page of the listing", last.page_ms / small.page_ms),
        ("CPU of showing one server", last.show_ms / small.show_ms),
        ("a host's resync", last.resync.wall_ms / small.resync.wall_ms),
        ("CPU of a host's resync", last.resync.cpu_ms / small.resync.cpu_ms),
    ]
    failed = lost + sum(step.failed for step in steps)
    return [
        Aim(what="servers that did not become ACTIVE", value=failed, at_most=0, exact=True),
        Aim(what="servers missing in a resync", value=sum(s.resync.missing for s in steps), at_most=0, exact=True),
        *(
            Aim(what=f"{what}, at {last.servers:,} on {last.hosts:,} hosts", value=ratio, at_most=MOST)
            for what, ratio in ratios
        ),
    ]
