"""Does a server cost the same when the cloud holds many? Creation by the thousand, a page of the list, one server."""

import os
import time
from collections.abc import Awaitable, Callable
from statistics import median

import msgspec

from benchmarks.outcome import Aim, Grid, Outcome, machine
from benchmarks.process import cpu_s
from benchmarks.progress import Teller
from benchmarks.stage import Stage, a_cloud
from muster.bench.options import Phase, ServersOptions
from muster.bench.run import run_servers
from muster.client.api import Call
from muster.client.cloud import Service

YARDSTICK = "the first thousand servers of the same run (CPU of the whole cloud's process, its hosts included)"
LARGE = "MUSTER_BENCH_SERVERS"
MOST = 1.3


class Sizes(msgspec.Struct, frozen=True):
    """How far, in steps of how many; what is read is read `reads` times."""

    servers: int = 20_000
    step: int = 1_000
    hosts: int = 500
    reads: int = 30


QUICK = Sizes(servers=120, step=60, hosts=10, reads=3)


class Step(msgspec.Struct, frozen=True):
    """One step: servers there are after it, what each of its own cost, and what reading costs then."""

    servers: int
    failed: int
    cpu_ms: float
    wall_ms: float
    page_ms: float
    show_ms: float


async def run(teller: Teller, quick: bool) -> Outcome:
    """The whole benchmark."""
    began, where, sizes = time.monotonic(), machine(), QUICK if quick else _full()
    steps: list[Step] = []
    async with a_cloud(sizes.hosts) as stage:
        await stage.network("many", 2 * sizes.servers)
        with teller.steps(f"{sizes.step:,} servers more", sizes.servers // sizes.step) as advance:
            while len(steps) * sizes.step < sizes.servers:
                steps.append(await _step(stage, sizes, len(steps)))
                advance()
    return Outcome(
        name="servers-scale",
        quick=quick,
        yardstick=YARDSTICK,
        machine=where,
        duration_s=time.monotonic() - began,
        grids=[_grid(steps, sizes)],
        aims=_aims(steps, sizes),
        notes=[f"{LARGE}=100000 goes as far as 100,000 servers"],
    )


def _full() -> Sizes:
    servers = int(os.environ.get(LARGE, Sizes().servers))
    return Sizes(servers=servers, hosts=max(500, servers // 50))


async def _step(stage: Stage, sizes: Sizes, done: int) -> Step:
    options = ServersOptions(
        count=sizes.step,
        phases=(Phase.CREATE,),
        keep=True,
        flavor="m1.tiny",
        network="many",
        cloud="muster",
        config_files=(str(stage.process.clouds_yaml),),
    )
    before_s = cpu_s(stage.process.pid)
    result = await run_servers(options)
    used_s = cpu_s(stage.process.pid) - before_s
    [create] = [figure for figure in result.figures if figure.name == "create"]
    one = result.servers[sizes.step // 2].id
    page = await _timed(lambda: _get(stage, "/servers/detail?limit=100"), sizes.reads)
    show = await _timed(lambda: _get(stage, f"/servers/{one}"), sizes.reads)
    return Step(
        servers=(done + 1) * sizes.step,
        failed=create.total - create.ok,
        cpu_ms=1000 * used_s / sizes.step,
        wall_ms=1000 / create.per_s if create.per_s else float("inf"),
        page_ms=page,
        show_ms=show,
    )


async def _get(stage: Stage, path: str) -> None:
    await stage.api.send(Call(f"GET {path}", "GET", Service.COMPUTE, path))


async def _timed(work: Callable[[], Awaitable[None]], times: int) -> float:
    """The median in milliseconds."""
    taken = []
    for _ in range(times):
        began = time.monotonic()
        await work()
        taken.append(1000 * (time.monotonic() - began))
    return median(taken)


def _grid(steps: list[Step], sizes: Sizes) -> Grid:
    shown = sorted({0, len(steps) // 4, len(steps) // 2, 3 * len(steps) // 4, len(steps) - 1})
    rows: list[list[str | float]] = [
        [f"{step.servers:,}", step.cpu_ms, step.wall_ms, step.page_ms, step.show_ms]
        for step in (steps[index] for index in shown)
    ]
    columns = ["servers there", "CPU ms per server", "wall ms", "page of 100, ms", "show one, ms"]
    return Grid(f"{sizes.step:,} more servers at once, on {sizes.hosts} simulated hosts", columns, rows)


def _aims(steps: list[Step], sizes: Sizes) -> list[Aim]:
    first, last = steps[0], steps[-1]
    ratios = [
        ("CPU per server created", last.cpu_ms / first.cpu_ms),
        ("a page of the listing", last.page_ms / first.page_ms),
        ("showing one server", last.show_ms / first.show_ms),
    ]
    return [
        Aim(what="servers that did not become ACTIVE", value=sum(step.failed for step in steps), at_most=0, exact=True),
        *(
            Aim(what=f"{what}, at {last.servers:,} against {first.servers:,}", value=ratio, at_most=MOST)
            for what, ratio in ratios
        ),
    ]
