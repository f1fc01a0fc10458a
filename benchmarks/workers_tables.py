"""The tables of the workers benchmark: what a burst costs, its messages, and how long one is on the bus."""

from collections.abc import Callable

import msgspec

from benchmarks.growth import Growth
from benchmarks.outcome import Aim, Grid
from muster.bench.records import Figure, ServersResult

_AT_MOST = 1.3
_FREE_PERCENT = 80
_WAYS = ("to_hosts", "from_hosts")
_JUDGED: tuple[tuple[str, str, Callable[[Growth], float]], ...] = (
    ("median", "to a host", lambda growth: growth.to_hosts.p50_s),
    ("p99", "to a host", lambda growth: growth.to_hosts.p99_s),
    ("median", "from a host", lambda growth: growth.from_hosts.p50_s),
    ("p99", "from a host", lambda growth: growth.from_hosts.p99_s),
)


class Made(msgspec.Struct, frozen=True):
    """Servers made by a cluster, and by how much its metrics and its workers' CPU seconds grew meanwhile."""

    result: ServersResult
    growth: Growth
    cpu_s: float

    def figure(self, name: str) -> Figure:
        """A row of the client's table."""
        return next(figure for figure in self.result.figures if figure.name == name)

    @property
    def servers(self) -> int:
        """How many were asked for."""
        return self.figure("create").total

    @property
    def lost(self) -> int:
        """Those that did not become ACTIVE."""
        return self.servers - self.figure("create").ok

    @property
    def messages_per_server(self) -> float:
        """Both directions together, heartbeats included."""
        return self.growth.total("muster_messages_total") / self.servers

    @property
    def busy_percent(self) -> float:
        """Of the whole machine's processors, while servers were made."""
        moments = [record.active_at_s for record in self.result.servers if record.active_at_s is not None]
        shares = [sample.cpu_percent for sample in self.result.samples if sample.at_s <= max(moments, default=0.0)]
        return sum(shares) / max(1, len(shares))


class Burst(Made, frozen=True):
    """All at once, then all deleted."""

    database_cpu_s: float

    @property
    def per_1000(self) -> float:
        """CPU seconds of the workers for 1,000 servers made and deleted."""
        return 1_000 * self.cpu_s / self.servers

    @property
    def lock_wait_share(self) -> float:
        """Time that work waited for a lock, of the time that it waited for it and held it."""
        waited, held = (self.growth.total(f"muster_lock_{what}_seconds_sum") for what in ("wait", "hold"))
        return waited / max(1e-9, waited + held)

    @property
    def redecided(self) -> float:
        """Batches decided again."""
        return self.growth.total("muster_redecided_total")

    @property
    def resyncs(self) -> float:
        """Hosts that were sent, or asked for, everything; each host's first greeting is before it."""
        return self.growth.total("muster_resyncs_total")


class Steady(Made, frozen=True):
    """Asked for evenly; made, and not deleted."""

    asked_per_s: float


class Cost(msgspec.Struct, frozen=True):
    """What the servers cost so many workers."""

    workers: int
    burst: Burst
    steady: Steady


def grids(costs: list[Cost], where: str) -> list[Grid]:
    """What a burst cost; its messages; the bus in the burst and at the even rate."""
    servers, rate = costs[0].burst.servers, costs[0].steady.asked_per_s
    return [
        _costs_grid(costs, f"{servers:,} servers at once {where}, made and deleted: what they cost"),
        _messages_grid(costs, f"{servers:,} servers at once {where}, made and deleted: messages, and batches of what"),
        _times_grid(
            [(cost.workers, cost.burst) for cost in costs],
            "How long a message was on the bus in that burst. Not judged: all wait for processors",
        ),
        _times_grid(
            [(cost.workers, cost.steady) for cost in costs],
            f"The same with {rate:.0f} servers/s asked for, a thirty-second of the burst's rate by the first. Judged: "
            "on an idle machine processors are free, so what grows is Muster's",
        ),
    ]


def _costs_grid(costs: list[Cost], title: str) -> Grid:
    one = costs[0].burst
    rows: list[list[str | float]] = [
        [
            cost.workers,
            cost.burst.figure("create").ok,
            cost.burst.figure("create").per_s or 0.0,
            cost.burst.per_1000,
            cost.burst.per_1000 / one.per_1000,
            1_000 * cost.burst.database_cpu_s / cost.burst.servers,
            cost.burst.growth.total("muster_transaction_seconds_count"),
            100 * cost.burst.lock_wait_share,
            cost.burst.redecided,
        ]
        for cost in costs
    ]
    columns = [
        *("workers", "ACTIVE", "per s", "CPU s per 1,000", "times", "PostgreSQL's"),
        *("commits", "lock wait %", "decided again"),
    ]
    return Grid(title, columns, rows)


def _messages_grid(costs: list[Cost], title: str) -> Grid:
    rows: list[list[str | float]] = []
    for cost in costs:
        growth = cost.burst.growth
        to_hosts, from_hosts = (growth.total("muster_messages_total", direction=way) for way in _WAYS)
        rows.append(
            [
                cost.workers,
                cost.burst.messages_per_server,
                to_hosts,
                from_hosts,
                growth.total("muster_batch_items_count", coalescer="outbox"),
                growth.total("muster_batch_items_sum", coalescer="outbox") / max(1.0, to_hosts),
                growth.total("muster_batch_items_count", coalescer="servers.create"),
                growth.total("muster_batch_items_count", coalescer="reports"),
                1_000 * growth.quantile("muster_outbox_seconds", 0.99),
                cost.burst.resyncs,
            ]
        )
    columns = [
        *("workers", "per server", "to hosts", "from them", "rounds", "changes each"),
        *("creating", "reports", "outbox p99 ms", "resyncs"),
    ]
    return Grid(title, columns, rows)


def _times_grid(phases: list[tuple[int, Made]], title: str) -> Grid:
    rows: list[list[str | float]] = [
        [
            workers,
            made.figure("create").ok,
            made.busy_percent,
            *(1_000 * read(made.growth) for _, _, read in _JUDGED),
            1_000 * made.growth.quantile("muster_outbox_seconds", 0.5),
            1_000 * (spread.p50_s if (spread := made.figure("create").spread) else 0.0),
            made.messages_per_server,
            1_000 * made.cpu_s / made.servers,
        ]
        for workers, made in phases
    ]
    columns = [
        *("workers", "ACTIVE", "busy %", "to a host p50 ms", "p99", "from one p50 ms", "p99"),
        *("outbox p50", "ACTIVE p50", "messages", "CPU ms"),
    ]
    return Grid(title, columns, rows)


def notes(costs: list[Cost]) -> list[str]:
    """Why hosts were sent everything, and where times at the even rate are not to be judged by."""
    busiest = max(cost.steady.busy_percent for cost in costs)
    crowded = f"at the even rate processors were busy for up to {busiest:.0f} %: times there are of the queue for them"
    return [*(_resyncs(cost) for cost in costs if cost.burst.resyncs), *([crowded] if busiest > _FREE_PERCENT else [])]


def _resyncs(cost: Cost) -> str:
    prefix = "muster_resyncs_total{"
    why = {key: int(value) for key, value in cost.burst.growth.workers.items() if key.startswith(prefix) and value}
    said = ", ".join(f"{count:,} {key.partition(chr(34))[2].rstrip(chr(34) + '}')}" for key, count in why.items())
    return f"hosts sent or asked for everything, by {cost.workers} workers: {said}"


def aims(costs: list[Cost]) -> list[Aim]:
    """What must hold whatever the number of workers."""
    phases: list[Made] = [made for cost in costs for made in (cost.burst, cost.steady)]
    errors = sum(sum(phase.result.traffic.errors.values()) for phase in phases)
    retries = sum(sum(phase.result.traffic.retries.values()) for phase in phases)
    one = costs[0]
    most = max(cost.burst.per_1000 / one.burst.per_1000 for cost in costs)
    messages = max(cost.burst.messages_per_server for cost in costs)
    return [
        Aim(what="servers that did not become ACTIVE", value=sum(p.lost for p in phases), at_most=0, exact=True),
        Aim(what="errors", value=errors, at_most=0, exact=True),
        Aim(what="retries", value=retries, at_most=0, exact=True),
        Aim(what="CPU seconds per server of the burst, of those by one worker", value=most, at_most=_AT_MOST),
        Aim(what="messages per server of the burst", value=messages, at_most=1.0),
        *_time_aims(costs),
        Aim(what="hosts sent or asked for everything", value=max(c.burst.resyncs for c in costs), at_most=0),
        Aim(what="decisions made again", value=sum(c.burst.redecided for c in costs), at_most=0),
    ]


def _time_aims(costs: list[Cost]) -> list[Aim]:
    return [
        Aim(
            what=f"{which} time of a message {way} at the even rate, of that by one worker",
            value=max(read(cost.steady.growth) for cost in costs) / max(1e-6, read(costs[0].steady.growth)),
            at_most=_AT_MOST,
        )
        for which, way, read in _JUDGED
    ]
