"""Thousands of port creations at once by ten worker processes on one subnet: eight ways of giving out the addresses.

On PostgreSQL and etcd, both durable, all on this machine; no HTTP. Each worker gets its share of the requests at the
same moment, all at once. A way that has not made all ports within the limit (`MUSTER_BENCH_LIMIT_S`, 30 s) is stopped
there, and not tried at larger sizes. Muster's own is played twice: on a fresh subnet, and on one in use. The ways are
in `contention_ways` and `contention_batches`, engines and workers in `contention_stage` and `contention_worker`.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.contention_chart import draw  # noqa: F401 - called by the command
from benchmarks.contention_stage import EXACT, PLENTY, Run, staged
from benchmarks.contention_ways import Way
from benchmarks.outcome import Aim, Grid, Outcome, machine
from benchmarks.progress import Teller

YARDSTICK = "the other ways, in the same run (benchmarks/contention_ways.py)"


class Sizes(msgspec.Struct, frozen=True):
    """How many ports at once, by how many workers, and how long a way may take for them."""

    counts: tuple[int, ...] = (100, 400, 800, 2_000, 5_000)
    workers: int = 10
    limit_s: float = float(os.environ.get("MUSTER_BENCH_LIMIT_S", "30"))
    ways: tuple[Way, ...] = tuple(Way)


QUICK = Sizes(counts=(40,), workers=2, ways=(Way.RETRY_10, Way.LOCK, Way.BATCH, Way.BLOCKS, Way.MUSTER))


async def run(teller: Teller, quick: bool) -> Outcome:
    """The whole experiment."""
    began, where, sizes = time.monotonic(), machine(), QUICK if quick else Sizes()
    runs: list[Run] = []
    with TemporaryDirectory(prefix="muster-benchmark-") as folder:
        async with staged(Path(folder), sizes.workers) as stage:
            plan = [(count, free, way) for count in sizes.counts for free in (PLENTY, EXACT) for way in sizes.ways]
            with teller.steps("bursts of ports", len(plan)) as step:
                for way in sizes.ways:
                    await stage.play(way, 4 * sizes.workers, PLENTY, sizes.limit_s)  # not measured: what is first
                for count, free, way in plan:
                    if all(one.is_whole for one in runs if one.way is way and one.free == free):
                        teller.says(f"{count} ports at once, {free} addresses: {way}")
                        runs.append(await stage.play(way, count, free, sizes.limit_s))
                    step()
    return Outcome(
        name="contention",
        quick=quick,
        yardstick=YARDSTICK,
        machine=where,
        duration_s=time.monotonic() - began,
        grids=[_grid(runs, free, sizes) for free in (PLENTY, EXACT)],
        aims=_aims(runs),
        notes=_notes(runs, sizes),
        series=[one.load for one in runs],
    )


COLUMNS = [
    "",
    "at once",
    "% made",
    "wall s",
    "p50 s",
    "p99 s",
    "max s",
    "tries each",
    "CPU s workers",
    "database",
    "etcd",
]


def _grid(runs: Sequence[Run], free: str, sizes: Sizes) -> Grid:
    rows: list[list[str | float]] = []
    for count in sizes.counts:
        for way in sizes.ways:
            found = [one for one in runs if (one.way, one.count, one.free) == (way, count, free)]
            rows += [_row(one) for one in found] or [[way, f"{count:,}", *["-"] * (len(COLUMNS) - 2)]]
    return Grid(f"ports at once on one subnet, {free} free addresses", COLUMNS, rows)


def _row(one: Run) -> list[str | float]:
    wall = one.wall_s if one.is_whole else f"> {one.wall_s:g}"
    times = (one.spread.p50_s, one.spread.p99_s, one.spread.max_s)
    cpu = (one.workers_cpu_s, one.database_cpu_s, one.locks_cpu_s)
    each = one.tries / one.made if one.made else "-"
    return [one.way, f"{one.count:,}", 100 * one.made / one.count, wall, *times, each, *cpu]


def _aims(runs: Sequence[Run]) -> list[Aim]:
    ours = [one for one in runs if one.way is Way.MUSTER]
    both = [one for one in runs if one.way in (Way.MUSTER, Way.MUSTER_AGAIN)]
    lean = [one for one in runs if one.way is Way.BATCH]
    return [
        Aim(what="Muster's ports not made", value=sum(one.count - one.made for one in both), at_most=0, exact=True),
        Aim(
            what="Muster's tries above one per port",
            value=sum(one.tries - one.count for one in both),
            at_most=0,
            exact=True,
        ),
        Aim(what="Muster's batches decided again", value=sum(one.decided_again for one in ours), at_most=0, exact=True),
        Aim(what="addresses given twice, by any way", value=sum(one.doubled for one in runs), at_most=0, exact=True),
        Aim(
            what="Muster, times as fast as the fastest retries or lock, worst size", value=_lead(ours, runs), at_least=1
        ),
        Aim(what="one lock per batch, lean, the same", value=_lead(lean, runs), at_least=1),
    ]


def _lead(ours: Sequence[Run], runs: Sequence[Run]) -> float:
    """How many times as fast as the fastest of the ways that are no batches, at the size where that is least."""
    others = [one for one in runs if one.way not in (Way.MUSTER, Way.MUSTER_AGAIN, Way.BATCH, Way.BLOCKS)]
    return min(
        other.wall_s / mine.wall_s
        for mine in ours
        for other in others
        if (other.count, other.free) == (mine.count, mine.free)
    )


def _notes(runs: Sequence[Run], sizes: Sizes) -> list[str]:
    notes = []
    for one in runs:
        if one.made < one.count:
            why = ", ".join(f"{number} x {code}" for code, number in sorted(one.refused.items()))
            notes.append(f"{one.way}, {one.count:,} at once, {one.free}: {one.made:,} made; {why}")
    if any(not one.is_whole for one in runs):
        notes.append(f"A way that is not done after {sizes.limit_s:g} s is stopped, and left out at larger sizes.")
    return notes
