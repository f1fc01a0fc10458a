"""2,000 servers by 2,000 requests at once, made and deleted by 1, 2, 4 and 8 workers of `muster serve`; then a
thirty-second of that rate, evenly, for some seconds. All of it three times, in turn.

On one small machine more workers make nothing faster: clients and engines eat the gain. What is looked at instead is
what grows with the number of workers: processor time, transactions, lock waits, messages, decisions made again. How
long a message is on the bus is looked at both times and judged at the even rate: of a burst it says how many processes
queue for how few processors.
"""

import asyncio
import os
import time
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from benchmarks.cluster import Cluster, a_cluster
from benchmarks.growth import Growth
from benchmarks.outcome import Outcome, machine
from benchmarks.progress import Teller
from benchmarks.sizes import number_from
from benchmarks.workers_tables import Burst, Cost, Steady, aims, grids, notes
from muster.bench.options import Phase, ServersOptions
from muster.bench.records import ServerRecord
from muster.bench.run import run_servers
from muster.client.api import Api

FLAVOR = "m1.tiny"
YARDSTICK = "one worker, in the same run"
SMALL = "MUSTER_BENCH_WORKERS"
# Of the burst's rate with the first number of workers, and the same for all. A server made alone costs workers several
# times what one of a burst does: a share that is to leave processors free is much smaller than it looks.
_STEADY_SHARE = 1 / 32


class Sizes(msgspec.Struct, frozen=True):
    """How much of it."""

    servers: int = 2_000
    hosts: int = 500
    workers: tuple[int, ...] = (1, 2, 4, 8)
    steady_s: float = 20.0
    rounds: int = 3


QUICK = Sizes(servers=60, hosts=10, workers=(1, 2), steady_s=1.0, rounds=1)


def _full() -> Sizes:
    """All of it, or what the environment asks for: `servers:hosts:workers,...`; the first number is the yardstick."""
    sizes = Sizes(rounds=number_from("MUSTER_BENCH_ROUNDS", Sizes().rounds))
    if not (asked := os.environ.get(SMALL)):
        return sizes
    servers, hosts, workers = asked.split(":")
    return replace(sizes, servers=int(servers), hosts=int(hosts), workers=tuple(map(int, workers.split(","))))


async def run(teller: Teller, quick: bool) -> Outcome:
    """The whole benchmark: a fresh cluster each time for each number of workers."""
    began, where, sizes = time.monotonic(), machine(), QUICK if quick else _full()
    costs: list[Cost] = []
    turns = [workers for _ in range(sizes.rounds) for workers in sizes.workers]
    with teller.steps(f"{sizes.servers} servers by {sizes.workers} workers", len(turns)) as step:
        for workers in turns:
            async with a_cluster(workers, sizes.hosts) as cluster:
                await run_servers(_options(cluster, sizes.servers))  # what a process does once is no cost of a server
                burst = await _burst(cluster, sizes.servers)
                rate = costs[0].steady.asked_per_s if costs else _STEADY_SHARE * (burst.figure("create").per_s or 1.0)
                await _steady(cluster, rate, sizes.steady_s / 2)  # the burst's aftermath in the database, not looked at
                costs.append(Cost(workers, burst, await _steady(cluster, rate, sizes.steady_s)))
            step()
    return Outcome(
        name="workers",
        quick=quick,
        yardstick=YARDSTICK,
        machine=where,
        duration_s=time.monotonic() - began,
        grids=grids(costs, f"on {sizes.hosts} simulated hosts"),
        aims=aims(costs),
        notes=notes(costs),
    )


async def _burst(cluster: Cluster, count: int) -> Burst:
    before = await _look(cluster)
    cpu_s, database_s = cluster.cpu_s, cluster.database.cpu_s
    result = await run_servers(_options(cluster, count))
    cpu_s, database_s = cluster.cpu_s - cpu_s, cluster.database.cpu_s - database_s
    return Burst(result, (await _look(cluster)).since(before), cpu_s, database_s)


async def _steady(cluster: Cluster, rate: float, seconds: float) -> Steady:
    """Servers asked for at this rate, whatever has become of those before; their deletion is not looked at."""
    before = await _look(cluster)
    cpu_s = cluster.cpu_s
    seen: list[tuple[Growth, float]] = []

    async def all_are_up(_api: Api, _records: Sequence[ServerRecord]) -> None:
        seen.append(((await _look(cluster)).since(before), cluster.cpu_s - cpu_s))

    result = await run_servers(_options(cluster, max(1, round(rate * seconds)), rate), inspect=all_are_up)
    [(growth, cpu_s)] = seen
    return Steady(result, growth, cpu_s, rate)


def _options(cluster: Cluster, count: int, rate: float | None = None) -> ServersOptions:
    return ServersOptions(
        count=count,
        rate_per_s=rate,
        phases=(Phase.CREATE, Phase.DELETE),
        flavor=FLAVOR,
        network="default",
        cloud="muster",
        config_files=(str(cluster.stage.process.clouds_yaml),),
    )


async def _look(cluster: Cluster) -> Growth:
    return await asyncio.to_thread(lambda: Growth(cluster.metrics(), cluster.hosts_metrics()))
