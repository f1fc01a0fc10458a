"""The tables of the workers benchmark: what a burst costs, its messages, and how long one is on the bus.

Of several rounds the median is shown and judged, of each figure by itself: a machine's speed goes up and down for
minutes.
"""

from collections.abc import Callable, Sequence
from statistics import median

import msgspec

from benchmarks.growth import Growth
from benchmarks.outcome import Aim, Grid
from muster.bench.records import Figure, ServersResult

_AT_MOST = 1.3
_FREE_PERCENT = 80
_JUDGED: tuple[tuple[str, str, Callable[[Growth], float]], ...] = (
    ("median", "to a host", lambda growth: growth.to_hosts.p50_s),
    ("p99", "to a host", lambda growth: growth.to_hosts.p99_s),
    ("median", "from a host", lambda growth: growth.from_hosts.p50_s),
    ("p99", "from a host", lambda growth: growth.from_hosts.p99_s),
)
_JUDGED_AS = ("to a host p50 ms", "p99", "from one p50 ms", "p99")


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
    """What the servers cost so many workers, in one round."""

    workers: int
    burst: Burst
    steady: Steady


# Of one number of workers, all rounds.
Rounds = Sequence[Cost]
Column = tuple[str, Callable[[Cost], float]]


def by_workers(costs: Sequence[Cost]) -> list[Rounds]:
    """The rounds of each number of workers, in the order in which these came first."""
    return [[cost for cost in costs if cost.workers == workers] for workers in {cost.workers: None for cost in costs}]


def _mid(rounds: Rounds, read: Callable[[Cost], float]) -> float:
    return median(map(read, rounds))


def _times(groups: Sequence[Rounds], read: Callable[[Cost], float]) -> float:
    """The most that any number of workers has of this, in times of what the first has."""
    return max(_mid(rounds, read) for rounds in groups) / max(1e-6, _mid(groups[0], read))


def grids(costs: Sequence[Cost], where: str) -> list[Grid]:
    """What a burst cost; its messages; the bus in the burst and at the even rate."""
    servers, rate, groups = costs[0].burst.servers, costs[0].steady.asked_per_s, by_workers(costs)
    rounds = f", medians of {len(groups[0])} rounds" if len(groups[0]) > 1 else ""
    what = f"{servers:,} servers at once {where}, made and deleted"
    one = _mid(groups[0], _per_1000)
    return [
        _grid(f"{what}{rounds}: what they cost", groups, _costs(one)),
        _grid(f"{what}: messages, and batches of what", groups, _MESSAGES),
        _grid(
            "How long a message was on the bus in that burst. Not judged: all wait for processors",
            groups,
            _on_the_bus(lambda cost: cost.burst),
        ),
        _grid(
            f"The same with {rate:.0f} servers/s asked for, a thirty-second of the burst's rate by the first. Judged: "
            "on an idle machine processors are free, so what grows is Muster's",
            groups,
            _on_the_bus(lambda cost: cost.steady),
        ),
    ]


def _grid(title: str, groups: Sequence[Rounds], columns: Sequence[Column]) -> Grid:
    rows: list[list[str | float]] = [
        [rounds[0].workers, *(_mid(rounds, read) for _, read in columns)] for rounds in groups
    ]
    return Grid(title, ["workers", *(name for name, _ in columns)], rows)


def _per_1000(cost: Cost) -> float:
    return cost.burst.per_1000


def _costs(one: float) -> list[Column]:
    return [
        ("ACTIVE", lambda cost: cost.burst.figure("create").ok),
        ("per s", lambda cost: cost.burst.figure("create").per_s or 0.0),
        ("CPU s per 1,000", _per_1000),
        ("times", lambda cost: cost.burst.per_1000 / one),
        ("PostgreSQL's", lambda cost: 1_000 * cost.burst.database_cpu_s / cost.burst.servers),
        ("commits", lambda cost: cost.burst.growth.total("muster_transaction_seconds_count")),
        ("lock wait %", lambda cost: 100 * cost.burst.lock_wait_share),
        ("decided again", lambda cost: cost.burst.redecided),
    ]


def _sent(cost: Cost, way: str) -> float:
    return cost.burst.growth.total("muster_messages_total", direction=way)


def _batches(cost: Cost, name: str) -> float:
    return cost.burst.growth.total("muster_batch_items_count", coalescer=name)


def _changes_each(cost: Cost) -> float:
    return cost.burst.growth.total("muster_batch_items_sum", coalescer="outbox") / max(1.0, _sent(cost, "to_hosts"))


_MESSAGES: tuple[Column, ...] = (
    ("per server", lambda cost: cost.burst.messages_per_server),
    ("to hosts", lambda cost: _sent(cost, "to_hosts")),
    ("from them", lambda cost: _sent(cost, "from_hosts")),
    ("rounds", lambda cost: _batches(cost, "outbox")),
    ("changes each", _changes_each),
    ("creating", lambda cost: _batches(cost, "servers.create")),
    ("reports", lambda cost: _batches(cost, "reports")),
    ("outbox p99 ms", lambda cost: 1_000 * cost.burst.growth.quantile("muster_outbox_seconds", 0.99)),
    ("resyncs", lambda cost: cost.burst.resyncs),
)


def _on_the_bus(made: Callable[[Cost], Made]) -> list[Column]:
    def active_ms(cost: Cost) -> float:
        spread = made(cost).figure("create").spread
        return 1_000 * spread.p50_s if spread else 0.0

    return [
        ("ACTIVE", lambda cost: made(cost).figure("create").ok),
        ("busy %", lambda cost: made(cost).busy_percent),
        *((name, _reading_ms(made, read)) for name, (_, _, read) in zip(_JUDGED_AS, _JUDGED, strict=True)),
        ("outbox p50", lambda cost: 1_000 * made(cost).growth.quantile("muster_outbox_seconds", 0.5)),
        ("ACTIVE p50", active_ms),
        ("messages", lambda cost: made(cost).messages_per_server),
        ("CPU ms", lambda cost: 1_000 * made(cost).cpu_s / made(cost).servers),
    ]


def _reading_ms(made: Callable[[Cost], Made], read: Callable[[Growth], float]) -> Callable[[Cost], float]:
    return lambda cost: 1_000 * read(made(cost).growth)


def notes(costs: Sequence[Cost]) -> list[str]:
    """Why hosts were sent everything, where times at the even rate are not to be judged by, and how rounds differed."""
    groups = by_workers(costs)
    busiest = max(_mid(rounds, lambda cost: cost.steady.busy_percent) for rounds in groups)
    crowded = f"at the even rate processors were busy for up to {busiest:.0f} %: times there are of the queue for them"
    return [
        *(_resyncs(cost) for cost in costs if cost.burst.resyncs),
        *(_spread(rounds) for rounds in groups if len(rounds) > 1),
        *([crowded] if busiest > _FREE_PERCENT else []),
    ]


def _spread(rounds: Rounds) -> str:
    cpu, bus = (
        "/".join(f"{read(cost):.3g}" for cost in rounds)
        for read in (_per_1000, lambda cost: 1_000 * cost.steady.growth.to_hosts.p50_s)
    )
    return f"workers {rounds[0].workers}, by round: CPU s per 1,000 {cpu}; to a host at the even rate p50 {bus} ms"


def _resyncs(cost: Cost) -> str:
    prefix = "muster_resyncs_total{"
    why = {key: int(value) for key, value in cost.burst.growth.workers.items() if key.startswith(prefix) and value}
    said = ", ".join(f"{count:,} {key.partition(chr(34))[2].rstrip(chr(34) + '}')}" for key, count in why.items())
    return f"hosts sent or asked for everything, by {cost.workers} workers: {said}"


def aims(costs: Sequence[Cost]) -> list[Aim]:
    """What must hold whatever the number of workers; what must never happen, in every round."""
    groups = by_workers(costs)
    phases: list[Made] = [made for cost in costs for made in (cost.burst, cost.steady)]
    errors = sum(sum(phase.result.traffic.errors.values()) for phase in phases)
    retries = sum(sum(phase.result.traffic.retries.values()) for phase in phases)
    most = _times(groups, _per_1000)
    messages = max(_mid(rounds, lambda cost: cost.burst.messages_per_server) for rounds in groups)
    return [
        Aim(what="servers that did not become ACTIVE", value=sum(p.lost for p in phases), at_most=0, exact=True),
        Aim(what="errors", value=errors, at_most=0, exact=True),
        Aim(what="retries", value=retries, at_most=0, exact=True),
        Aim(what="CPU seconds per server of the burst, of those by one worker", value=most, at_most=_AT_MOST),
        Aim(what="messages per server of the burst", value=messages, at_most=1.0),
        *_time_aims(groups),
        Aim(what="hosts sent or asked for everything", value=max(c.burst.resyncs for c in costs), at_most=0),
        Aim(what="decisions made again", value=sum(c.burst.redecided for c in costs), at_most=0),
    ]


def _time_aims(groups: Sequence[Rounds]) -> list[Aim]:
    return [
        Aim(
            what=f"{which} time of a message {way} at the even rate, of that by one worker",
            value=_times(groups, lambda cost, read=read: read(cost.steady.growth)),  # type: ignore[misc]
            at_most=_AT_MOST,
        )
        for which, way, read in _JUDGED
    ]
