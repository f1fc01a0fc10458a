"""`POST /ports` on one subnet, all at once, to a cluster: four workers of `muster serve` over PostgreSQL and etcd.

One client, one socket that the workers share. After each burst the same one goes to a cloud of a single process on
SQLite: what a cluster costs, or gains, where all of it shares one machine. How other ways of giving out addresses fare
with several workers is `contention`.
"""

import time

import msgspec

from benchmarks.cluster import a_cluster
from benchmarks.outcome import Aim, Grid, Outcome, machine
from benchmarks.ports import Run, make_ports
from benchmarks.progress import Teller
from benchmarks.stage import a_cloud

YARDSTICK = "the same bursts to a cloud of one process on SQLite"


class Sizes(msgspec.Struct, frozen=True):
    """How many ports at once, and by how many workers."""

    bursts: tuple[int, ...] = (100, 800, 2_000)
    workers: int = 4


QUICK = Sizes(bursts=(20,), workers=2)


async def run(teller: Teller, quick: bool) -> Outcome:
    """The whole benchmark: at each size with addresses to spare and with exactly enough."""
    began, where, sizes = time.monotonic(), machine(), QUICK if quick else Sizes()
    plan = [(count, times * count) for count in sizes.bursts for times in (4, 1)]
    ours: list[Run] = []
    single: list[Run] = []
    async with a_cluster(sizes.workers) as cluster, a_cloud(0) as cloud:
        for stage in (cluster.stage, cloud):
            await make_ports(stage, "warm", 20 * sizes.workers, 100 * sizes.workers)
        with teller.steps("bursts, to the cluster and to one process", len(plan)) as step:
            for count, free in plan:
                ours.append(await make_ports(cluster.stage, f"{count}-of-{free}", count, free))
                single.append(await make_ports(cloud, f"{count}-of-{free}", count, free))
                step()
    return Outcome(
        name="ports-cluster",
        quick=quick,
        yardstick=YARDSTICK,
        machine=where,
        duration_s=time.monotonic() - began,
        grids=[_grid(plan, ours, single, sizes)],
        aims=[
            Aim(what="ports not made", value=sum(one.asked - one.made for one in ours), at_most=0, exact=True),
            Aim(what="addresses given twice", value=sum(one.doubled for one in ours), at_most=0, exact=True),
        ],
    )


def _grid(plan: list[tuple[int, int]], ours: list[Run], single: list[Run], sizes: Sizes) -> Grid:
    rows: list[list[str | float]] = []
    for (count, free), mine, other in zip(plan, ours, single, strict=True):
        spread = mine.burst.spread
        percent = 100 * mine.made / count
        rows.append(
            [
                f"{count:,} of {free:,} addresses",
                percent,
                mine.per_s,
                spread.p50_s,
                spread.p99_s,
                other.per_s,
                mine.per_s / other.per_s,
            ]
        )
    columns = ["", "% made", "per s", "p50 s", "p99 s", "one process per s", "times as fast"]
    return Grid(f"ports at once by {sizes.workers} workers on PostgreSQL and etcd", columns, rows)
