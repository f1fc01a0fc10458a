"""Does a server cost the same when the cloud holds many, on many hosts? The next thousand, one alone, a page, one
server, a host's resync; first in a cloud of a thousand servers with as many on each host.

What lies between is filled by requests for thousands of servers at once. A host's resync is what its Hello costs the
control plane: this process takes it in over the same database, for a host that has the same number of servers all the
time, and keeps the answer to itself.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import msgspec

from benchmarks.outcome import Aim, Grid, Outcome, machine
from benchmarks.process import cpu_s, threads_cpu_s
from benchmarks.progress import Teller
from benchmarks.resync import Resync, Resyncs
from benchmarks.stage import Stage, a_cloud
from muster.bench.options import Phase, ServersOptions
from muster.bench.records import ServersResult
from muster.bench.run import run_servers
from muster.client.api import Call
from muster.client.cloud import Service

YARDSTICK = (
    "for the next thousand: the first thousand on as many hosts; else: a cloud with 1,000 servers; in the same run "
    "(CPU of the whole cloud's process, its hosts included)"
)
LARGE, HOSTS = "MUSTER_BENCH_SERVERS", "MUSTER_BENCH_HOSTS"
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
    began, where, sizes = time.monotonic(), machine(), QUICK if quick else _full()
    small = msgspec.structs.replace(sizes, servers=sizes.step, hosts=max(1, sizes.step // _ON_HOST), shares=())
    steps, lost = [], 0
    for each in (small, sizes):
        with teller.steps(f"{each.servers:,} servers on {each.hosts:,} hosts", each.servers) as advance:
            found, failed = await _grown(each, advance)
        steps += found
        lost += failed
    return Outcome(
        name="servers-scale",
        quick=quick,
        yardstick=YARDSTICK,
        machine=where,
        duration_s=time.monotonic() - began,
        grids=[_grid(steps, sizes)],
        aims=_aims(steps, lost),
        notes=[f"{LARGE}=100000 goes as far as 100,000 servers on 5,000 hosts"],
    )


async def _grown(sizes: Sizes, advance: Callable[[int], None]) -> tuple[list[Step], int]:
    """A cloud that grows to its size: what was measured on the way, and how many servers of the others were lost."""
    steps: list[Step] = []
    async with a_cloud(sizes.hosts) as stage, Resyncs.over(_folder(stage), _HOST) as resyncs:
        await stage.network("many", 2 * sizes.servers)
        lost = (await _servers(stage, _ON_HOST, zone=f"nova:{resyncs.hostname}")).lost
        there = _ON_HOST
        for share in (0.0, *sizes.shares):
            while (missing := int(share * sizes.servers) - sizes.step - there) > 0:
                count = min(missing, _AT_ONCE)
                lost += (await _servers(stage, count, batch=True)).lost
                there += count
                advance(count)
            steps.append(await _step(stage, resyncs, sizes, there + sizes.step))
            there += sizes.step + sizes.reads
            advance(sizes.step)
    return steps, lost


def _full() -> Sizes:
    servers = int(os.environ.get(LARGE, Sizes().servers))
    hosts = int(os.environ.get(HOSTS, servers // _ON_HOST))
    return Sizes(servers=servers, hosts=max(1, hosts))


def _folder(stage: Stage) -> Path:
    return stage.process.clouds_yaml.parent


async def _servers(
    stage: Stage, count: int, *, batch: bool = False, concurrency: int | None = None, zone: str | None = None
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
        config_files=(str(stage.process.clouds_yaml),),
    )
    before_s = cpu_s(stage.process.pid)
    result = await run_servers(options)
    return _Made(result, cpu_s(stage.process.pid) - before_s)


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


async def _step(stage: Stage, resyncs: Resyncs, sizes: Sizes, there: int) -> Step:
    made = await _servers(stage, sizes.step)
    one = made.result.servers[sizes.step // 2].id
    page = await _cpu_ms(stage, "/servers/detail?limit=100", sizes.reads)
    show = await _cpu_ms(stage, f"/servers/{one}", sizes.reads)
    alone = await _servers(stage, sizes.reads, concurrency=1)
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


async def _cpu_ms(stage: Stage, path: str, times: int) -> float:
    """CPU milliseconds of the cloud's process for one GET: the median of so many, one after the other."""
    used = []
    for _ in range(times):
        before_s = threads_cpu_s(stage.process.pid)
        await _get(stage, path)
        used.append(1000 * (threads_cpu_s(stage.process.pid) - before_s))
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
