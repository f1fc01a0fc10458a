"""2,000 servers by 2,000 requests at once, made and deleted by 1, 2, 4 and 8 workers of `muster serve`.

On one small machine more workers make nothing faster: clients and engines eat the gain. What is looked at instead is
what grows with the number of workers: processor time, transactions, lock waits, messages and how long they take,
decisions made again.
"""

import asyncio
import os
import time

import msgspec

from benchmarks.cluster import Cluster, a_cluster
from benchmarks.outcome import Aim, Grid, Outcome, machine
from benchmarks.progress import Teller
from muster.bench.options import Phase, ServersOptions
from muster.bench.records import Figure, ServersResult
from muster.bench.run import run_servers

FLAVOR = "m1.tiny"
YARDSTICK = "one worker, in the same run"
_DELIVERY = "muster_bus_delivery_seconds"
SMALL = "MUSTER_BENCH_WORKERS"


class Sizes(msgspec.Struct, frozen=True):
    """How much of it."""

    servers: int = 2_000
    hosts: int = 500
    workers: tuple[int, ...] = (1, 2, 4, 8)


QUICK = Sizes(servers=60, hosts=10, workers=(1, 2))


def _full() -> Sizes:
    """All of it, or what the environment asks for: `servers:hosts:workers,...`; the first number is the yardstick."""
    if not (asked := os.environ.get(SMALL)):
        return Sizes()
    servers, hosts, workers = asked.split(":")
    return Sizes(int(servers), int(hosts), tuple(map(int, workers.split(","))))


class Cost(msgspec.Struct, frozen=True):
    """What making and deleting the servers once cost so many workers."""

    workers: int
    result: ServersResult
    workers_cpu_s: float
    database_cpu_s: float
    metrics: dict[str, float]
    hosts_metrics: dict[str, float]

    def total(self, name: str) -> float:
        """A metric, over all its labels."""
        return sum(value for key, value in self.metrics.items() if key.partition("{")[0] == name)

    @property
    def active(self) -> int:
        return self.figure("create").ok

    @property
    def per_1000(self) -> float:
        """CPU seconds of the workers for 1,000 servers made and deleted."""
        return 1_000 * self.workers_cpu_s / self.figure("create").total

    @property
    def lock_wait_share(self) -> float:
        """Time that work waited for a lock, of the time that it waited for it and held it."""
        waited, held = (self.total(f"muster_lock_{what}_seconds_sum") for what in ("wait", "hold"))
        return waited / max(1e-9, waited + held)

    @property
    def messages_per_server(self) -> float:
        return self.total("muster_messages_total") / self.figure("create").total

    @property
    def reports_per_server(self) -> float:
        """Those of the messages that came from hosts: reports and heartbeats."""
        return self.metrics.get('muster_messages_total{direction="from_hosts"}', 0.0) / self.figure("create").total

    @property
    def to_hosts_s(self) -> float:
        """From publishing a message to its host's reading it: the mean, of the same clock."""
        return _mean(self.hosts_metrics, _DELIVERY)

    @property
    def from_hosts_s(self) -> float:
        """The same for what hosts say."""
        return _mean(self.metrics, _DELIVERY)

    @property
    def resyncs(self) -> float:
        """Hosts that were sent, or asked for, everything; each host's first greeting is before it."""
        return self.total("muster_resyncs_total")

    @property
    def outbox_p99_s(self) -> float:
        """The smallest bound of the histogram that 99 of 100 changes kept."""
        counts: dict[float, float] = {}
        for key, value in self.metrics.items():
            if key.startswith("muster_outbox_seconds_bucket"):
                counts[float(key.partition('le="')[2].partition('"')[0])] = value
        most = counts.get(float("inf"), 0.0)
        return next((bound for bound in sorted(counts) if counts[bound] >= 0.99 * most), 0.0)

    def figure(self, name: str) -> Figure:
        return next(figure for figure in self.result.figures if figure.name == name)


def _mean(metrics: dict[str, float], name: str) -> float:
    return metrics[f"{name}_sum"] / max(1.0, metrics[f"{name}_count"])


def _times(value: float, one: float) -> float:
    return value / max(1e-9, one)


async def run(teller: Teller, quick: bool) -> Outcome:
    """The whole benchmark: a fresh cluster for each number of workers."""
    began, where, sizes = time.monotonic(), machine(), QUICK if quick else _full()
    costs = []
    with teller.steps(f"{sizes.servers} servers by {sizes.workers} workers", len(sizes.workers)) as step:
        for workers in sizes.workers:
            async with a_cluster(workers, sizes.hosts) as cluster:
                await _servers(cluster, 20 * workers, "warm")
                costs.append(await _measured(cluster, workers, sizes.servers))
            step()
    return Outcome(
        name="workers",
        quick=quick,
        yardstick=YARDSTICK,
        machine=where,
        duration_s=time.monotonic() - began,
        grids=[_grid(costs, sizes)],
        aims=_aims(costs),
        notes=[_resyncs(cost) for cost in costs if cost.resyncs],
    )


async def _measured(cluster: Cluster, workers: int, count: int) -> Cost:
    before, hosts_before = await asyncio.to_thread(_metrics, cluster)
    cpu_s, database_s = cluster.cpu_s, cluster.database.cpu_s
    result = await _servers(cluster, count, "bench")
    cpu_s, database_s = cluster.cpu_s - cpu_s, cluster.database.cpu_s - database_s
    after, hosts_after = await asyncio.to_thread(_metrics, cluster)
    return Cost(workers, result, cpu_s, database_s, _grown(before, after), _grown(hosts_before, hosts_after))


def _metrics(cluster: Cluster) -> tuple[dict[str, float], dict[str, float]]:
    return cluster.metrics(), cluster.hosts_metrics()


def _grown(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {name: after[name] - before.get(name, 0.0) for name in after}


async def _servers(cluster: Cluster, count: int, name: str) -> ServersResult:
    options = ServersOptions(
        count=count,
        phases=(Phase.CREATE, Phase.DELETE),
        flavor=FLAVOR,
        network="default",
        cloud="muster",
        config_files=(str(cluster.stage.process.clouds_yaml),),
    )
    return await run_servers(options)


def _grid(costs: list[Cost], sizes: Sizes) -> Grid:
    one = costs[0]
    rows: list[list[str | float]] = [
        [
            cost.workers,
            cost.active,
            cost.figure("create").per_s or 0.0,
            cost.per_1000,
            cost.per_1000 / one.per_1000,
            1_000 * cost.database_cpu_s / sizes.servers,
            cost.total("muster_transaction_seconds_count"),
            100 * cost.lock_wait_share,
            cost.messages_per_server,
            cost.reports_per_server,
            1_000 * cost.to_hosts_s,
            1_000 * cost.from_hosts_s,
            cost.outbox_p99_s,
            cost.resyncs,
            cost.total("muster_redecided_total"),
        ]
        for cost in costs
    ]
    columns = [
        "workers",
        "ACTIVE",
        "per s",
        "CPU s per 1,000",
        "times",
        "PostgreSQL's",
        "transactions",
        "lock wait %",
        "messages per server",
        "from hosts",
        "to a host ms",
        "from one ms",
        "outbox p99 s",
        "resyncs",
        "decided again",
    ]
    return Grid(f"{sizes.servers:,} servers at once on {sizes.hosts} simulated hosts, made and deleted", columns, rows)


def _resyncs(cost: Cost) -> str:
    prefix = "muster_resyncs_total{"
    why = {key: int(value) for key, value in cost.metrics.items() if key.startswith(prefix) and value}
    said = ", ".join(f"{count:,} {key.partition(chr(34))[2].rstrip(chr(34) + '}')}" for key, count in why.items())
    return f"hosts sent or asked for everything, by {cost.workers} workers: {said}"


def _aims(costs: list[Cost]) -> list[Aim]:
    lost = sum(cost.figure("create").total - cost.active for cost in costs)
    errors = sum(sum(cost.result.traffic.errors.values()) for cost in costs)
    retries = sum(sum(cost.result.traffic.retries.values()) for cost in costs)
    one = costs[0]
    most = max(cost.per_1000 / one.per_1000 for cost in costs)
    later = max(
        max(_times(cost.to_hosts_s, one.to_hosts_s), _times(cost.from_hosts_s, one.from_hosts_s)) for cost in costs
    )
    return [
        Aim(what="servers that did not become ACTIVE", value=lost, at_most=0, exact=True),
        Aim(what="errors", value=errors, at_most=0, exact=True),
        Aim(what="retries", value=retries, at_most=0, exact=True),
        Aim(what="CPU seconds per server, of those by one worker", value=most, at_most=1.3),
        Aim(what="messages per server", value=max(cost.messages_per_server for cost in costs), at_most=1.0),
        Aim(what="mean time of a message on the bus, of that by one worker", value=later, at_most=1.3),
        Aim(what="hosts sent or asked for everything", value=max(cost.resyncs for cost in costs), at_most=0),
        Aim(what="decisions made again", value=sum(c.total("muster_redecided_total") for c in costs), at_most=0),
    ]
