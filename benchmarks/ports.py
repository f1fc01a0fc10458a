"""`POST /ports` on one subnet, all at once: Muster, and beside it the three other ways of giving out addresses."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.floor import Floor
from benchmarks.load import Burst, burst, post
from benchmarks.outcome import Aim, Grid, Outcome, machine
from benchmarks.port_ways import Way
from benchmarks.progress import Teller
from benchmarks.stage import Stage, a_cloud, on_stage, the_floor
from muster.bench.launch import Launch
from muster.client.cloud import Service

MUSTER = "Muster"
YARDSTICK = (
    "Muster's own code with addresses given out in the three other ways, same client, same sizes "
    "(benchmarks/port_ways.py); and the floor, one insert per request not waiting for the disk (benchmarks/floor.py)"
)
SAID = {
    MUSTER: "Muster: batches, one lock each",
    Way.RETRY_10: "retry 10 x 0.1 s",
    Way.RETRY_20: "retry 20 x 0.5 s, doubling to 10 s",
    Way.LOCK: "one Tooz lock per port",
}


class Sizes(msgspec.Struct, frozen=True):
    """How many ports at once."""

    bursts: tuple[int, ...] = (100, 800, 2_000)


QUICK = Sizes(bursts=(20,))


class FixedIp(msgspec.Struct, frozen=True):
    ip_address: str


class Port(msgspec.Struct, frozen=True):
    fixed_ips: list[FixedIp]


class MadePort(msgspec.Struct, frozen=True):
    port: Port


class Run(msgspec.Struct, frozen=True):
    """One burst of one way: what was asked, what came, how many addresses were given twice."""

    asked: int
    burst: Burst
    doubled: int

    @property
    def made(self) -> int:
        """How many ports there are."""
        return self.burst.statuses[201]

    @property
    def per_s(self) -> float:
        """Ports per second, the failed ones' time included."""
        return self.made / self.burst.duration_s


async def make_ports(stage: Stage, name: str, count: int, free: int) -> Run:
    """`count` ports at once on a new network with `free` addresses."""
    network_id = await stage.network(name, free)
    url, token = stage.url(Service.NETWORK, "/ports"), await stage.token()
    bodies = [{"port": {"network_id": network_id, "name": f"{name}-{index:05d}"}} for index in range(count)]
    made = await burst(stage.client, [post(url, body, token) for body in bodies])
    given = [
        one.ip_address
        for answer in made.answers
        if answer.status == 201
        for one in msgspec.json.decode(answer.body, type=MadePort).port.fixed_ips
    ]
    return Run(count, made, len(given) - len(set(given)))


@asynccontextmanager
async def another_way(way: Way) -> AsyncIterator[Stage]:
    """A cloud whose ports are made this way."""
    with TemporaryDirectory(prefix="muster-benchmark-") as folder:
        arguments = ("-m", "benchmarks.port_ways", "--data", folder, "--way", way.value)
        async with on_stage(Launch(arguments=arguments, folder=Path(folder))) as stage:
            yield stage


async def run(teller: Teller, quick: bool) -> Outcome:
    """The whole benchmark: a burst of Muster's follows each of another way, so that a change of the machine hits both.

    At the end Muster makes as many ports as a subnet has addresses, beside the floor.
    """
    began, where, sizes = time.monotonic(), machine(), QUICK if quick else Sizes()
    runs: dict[str, list[Run]] = {MUSTER: [], **{way: [] for way in Way}}
    exact: list[Run] = []
    floor: list[float] = []
    async with a_cloud(0) as stage, the_floor(Floor.UNSAFE) as bare:
        await make_ports(stage, "warm", 20, 100)
        with teller.steps("bursts", len(sizes.bursts) * (len(Way) + 1)) as step:
            for way in Way:
                async with another_way(way) as other:
                    await make_ports(other, "warm", 20, 100)
                    for count in sizes.bursts:
                        teller.says(f"{count} ports at once: {SAID[way]}, then Muster")
                        runs[way].append(await make_ports(other, f"net-{count}", count, 4 * count))
                        runs[MUSTER].append(await make_ports(stage, f"{way}-{count}", count, 4 * count))
                        step()
            for count in sizes.bursts:
                exact.append(await make_ports(stage, f"exact-{count}", count, count))
                floor.append(await _floor_rate(stage, bare.base_url, count))
                step()
    return Outcome(
        name="ports",
        quick=quick,
        yardstick=YARDSTICK,
        machine=where,
        duration_s=time.monotonic() - began,
        grids=[_grid(runs), _exact_grid(exact, floor)],
        aims=_aims(runs, exact, sizes),
    )


async def _floor_rate(stage: Stage, url: str, count: int) -> float:
    bodies = [{"port": {"network_id": "0" * 36, "name": f"floor-{index:05d}"}} for index in range(count)]
    made = await burst(stage.client, [post(url + "/ports", body, "0" * 200) for body in bodies])
    return made.per_s(201)


def _rate(runs: list[Run], count: int) -> float:
    return median(run.per_s for run in runs if run.asked == count)


def _grid(runs: dict[str, list[Run]]) -> Grid:
    rows: list[list[str | float]] = []
    for name, found in runs.items():
        for count in sorted({run.asked for run in found}):
            here = [run for run in found if run.asked == count]
            percent = 100 * sum(run.made for run in here) / sum(run.asked for run in here)
            p99 = median(run.burst.spread.p99_s for run in here)
            rate = _rate(here, count)
            rows.append([SAID[name], count, percent, rate, p99, _rate(runs[MUSTER], count) / rate if rate else "-"])
    return Grid("ports at once on one subnet", ["", "at once", "% made", "per s", "p99 s", "Muster is faster"], rows)


def _exact_grid(exact: list[Run], floor: list[float]) -> Grid:
    rows: list[list[str | float]] = [
        [f"{run.asked:,} ports, {run.asked:,} addresses", run.made, run.per_s, rate, run.per_s / rate]
        for run, rate in zip(exact, floor, strict=True)
    ]
    return Grid("Muster with exactly as many addresses", ["", "made", "per s", "floor per s", "of the floor"], rows)


def _aims(runs: dict[str, list[Run]], exact: list[Run], sizes: Sizes) -> list[Aim]:
    ours = [*runs[MUSTER], *exact]
    missing, doubled = sum(run.asked - run.made for run in ours), sum(run.doubled for run in ours)
    slowest = min(
        _rate(runs[MUSTER], count) / max(_rate(runs[way], count), 0.001) for way in Way for count in sizes.bursts
    )
    rates = [
        Aim(what=f"ports per second, {count} at once", value=_rate(runs[MUSTER], count), at_least=600)
        for count in sizes.bursts
        if count >= 800
    ]
    return [
        Aim(what="Muster's ports that were not made", value=missing, at_most=0, exact=True),
        Aim(what="addresses given twice", value=doubled, at_most=0, exact=True),
        *rates,
        Aim(what="times as fast as the best other way, at the worst size", value=slowest, at_least=1),
    ]
