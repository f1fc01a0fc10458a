"""Two looks at the same processes, compared: what waits, for what, and how long. Pure.

The measure of contention is how many wait at a time on average: seconds waited per second, over all processes. It is
the same for a lock, a queue and a database, so the largest names what the cluster waits for most. Batches wait, not
requests: of a queue it is the first of each batch that counts.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from muster.base.percentile import histogram_quantile
from muster.domain.timeline import STEPS
from muster.top.scrape import Key, Scrape, answering

#: Histograms of waits: their name, the label that tells their things apart, and what a person calls them.
WAITS = (
    ("muster_lock_wait_seconds", "kind", "lock"),
    ("muster_queue_seconds", "coalescer", "queue"),
    ("muster_database_wait_seconds", None, "database connection"),
    ("muster_transaction_seconds", None, "database transaction"),
    ("muster_bus_publish_seconds", None, "bus publish"),
)
#: Below this many waiting at a time nothing is worth naming.
WORTH_NAMING = 0.05


class Wait(Struct, frozen=True, kw_only=True):
    """One thing that is waited for, over all processes. `waiting`: how many at a time, on average."""

    thing: str
    per_s: float
    mean_s: float
    p50_s: float
    p99_s: float
    waiting: float


class Batches(Struct, frozen=True, kw_only=True):
    """One kind of batch over all processes. `queued`: items behind the batch in flight, now."""

    coalescer: str
    per_s: float
    mean_items: float
    mean_s: float
    queued: float


class Phase(Struct, frozen=True, kw_only=True):
    """A step of new servers' lives: the time from the step before it."""

    step: str
    mean_s: float
    p50_s: float
    p99_s: float


class Process(Struct, frozen=True, kw_only=True):
    """One process. `cpu`: processors that it keeps busy."""

    target: str
    error: str | None = None
    requests_per_s: float = 0.0
    messages_per_s: float = 0.0
    cpu: float = 0.0
    memory_mib: float = 0.0
    failures: float = 0.0


class HostMemory(Struct, frozen=True, kw_only=True):
    """A host with real guests: what they can still take, what merging equal pages saves, whether boots wait for it."""

    host: str
    available_mib: float
    saved_mib: float
    merging: bool
    boots_held: bool


class Picture(Struct, frozen=True, kw_only=True):
    """What happened between two looks. `active_per_s`: servers that became ACTIVE; `delivery_p99_s`: of messages."""

    over_s: float
    processes: Sequence[Process]
    waits: Sequence[Wait]
    batches: Sequence[Batches]
    phases: Sequence[Phase]
    delivery_p99_s: float
    active_per_s: float
    redecided_per_s: float
    hosts: Sequence[HostMemory] = ()

    @property
    def most_contended(self) -> Wait | None:
        """What is waited for most; None where hardly anything waits."""
        found = max(self.waits, key=lambda wait: wait.waiting, default=None)
        return found if found is not None and found.waiting >= WORTH_NAMING else None


def remembered(before: Sequence[Scrape], now: Sequence[Scrape]) -> list[Scrape]:
    """Of each process the last look at which it answered: what the next look is compared with."""
    return list({one.target: one for one in (*answering(before), *answering(now))}.values())


def compare(before: Sequence[Scrape], now: Sequence[Scrape]) -> Picture:
    """What happened from one look to the next, of each process over its own time between the two.

    A process that began anew counts from its start. One that answers for the first time counts from the next look on:
    nobody knows when that was which it counts already.
    """
    earlier = {one.target: one for one in answering(before)}
    pairs = [(earlier.get(one.target), one) for one in answering(now)]
    grown = _Growth(pairs)
    return Picture(
        over_s=max((one.at_s - old.at_s for old, one in pairs if old is not None), default=0.0),
        processes=[_process(earlier.get(one.target), one) for one in now],
        waits=sorted(_waits(grown), key=lambda wait: -wait.waiting),
        batches=_batches(grown, [one.values for _, one in pairs]),
        phases=_phases(grown),
        delivery_p99_s=grown.quantile("muster_bus_delivery_seconds", 0.99),
        active_per_s=grown.rate("muster_server_states_total", state="active"),
        redecided_per_s=grown.rate("muster_redecided_total"),
        hosts=_hosts([one.values for _, one in pairs]),
    )


_ByLabels = dict[str, dict[tuple[tuple[str, str], ...], float]]


def _matching(values: _ByLabels, name: str, labels: Mapping[str, str]) -> float:
    wanted = set(labels.items())
    return sum(value for found, value in values.get(name, {}).items() if wanted <= set(found))


class _Growth:
    """By how much counters grew, and how fast, summed over processes."""

    def __init__(self, looks: Iterable[tuple[Scrape | None, Scrape]]) -> None:
        self._sums: _ByLabels = defaultdict(lambda: defaultdict(float))
        self._rates: _ByLabels = defaultdict(lambda: defaultdict(float))
        for old, now in looks:
            over_s = now.at_s - old.at_s if old is not None else 0.0
            for (name, labels), value in _grown(old, now).items() if old is not None else ():
                self._sums[name][labels] += value
                self._rates[name][labels] += value / over_s if over_s > 0 else 0.0

    def total(self, name: str, **labels: str) -> float:
        return _matching(self._sums, name, labels)

    def rate(self, name: str, **labels: str) -> float:
        return _matching(self._rates, name, labels)

    def values_of(self, name: str, label: str) -> list[str]:
        return sorted({dict(labels)[label] for labels in self._sums.get(name, {}) if label in dict(labels)})

    def quantile(self, name: str, share: float, **labels: str) -> float:
        """By straight lines within a histogram's buckets, as Prometheus does; its last bound where it is beyond."""
        wanted = set(labels.items())
        buckets: dict[float, float] = defaultdict(float)
        for found, value in self._sums.get(f"{name}_bucket", {}).items():
            if wanted <= set(found):
                buckets[float(dict(found)["le"])] += value
        return histogram_quantile(sorted(buckets.items()), share)


def _waits(grown: _Growth) -> list[Wait]:
    found = []
    for name, label, called in WAITS:
        for value in grown.values_of(f"{name}_count", label) if label else [None]:
            labels = {label: value} if label and value is not None else {}
            count = grown.total(f"{name}_count", **labels)
            if count:
                waited_s = grown.total(f"{name}_sum", **labels)
                found.append(
                    Wait(
                        thing=f"{called} {value}" if value else called,
                        per_s=grown.rate(f"{name}_count", **labels),
                        mean_s=waited_s / count,
                        p50_s=grown.quantile(name, 0.5, **labels),
                        p99_s=grown.quantile(name, 0.99, **labels),
                        waiting=grown.rate(f"{name}_sum", **labels),
                    )
                )
    return found


def _batches(grown: _Growth, now: Sequence[Mapping[Key, float]]) -> list[Batches]:
    found = []
    for coalescer in grown.values_of("muster_batch_items_count", "coalescer"):
        count = grown.total("muster_batch_items_count", coalescer=coalescer)
        queued = sum(values.get(("muster_queue_items", (("coalescer", coalescer),)), 0.0) for values in now)
        if count or queued:
            found.append(
                Batches(
                    coalescer=coalescer,
                    per_s=grown.rate("muster_batch_items_count", coalescer=coalescer),
                    mean_items=_mean(grown.total("muster_batch_items_sum", coalescer=coalescer), count),
                    mean_s=_mean(grown.total("muster_batch_seconds_sum", coalescer=coalescer), count),
                    queued=queued,
                )
            )
    return sorted(found, key=lambda batch: -batch.per_s * batch.mean_items)


def _phases(grown: _Growth) -> list[Phase]:
    """In the order of a server's life."""
    name = "muster_phase_seconds"
    seen = set(grown.values_of(f"{name}_count", "step"))
    return [
        Phase(
            step=step,
            mean_s=_mean(grown.total(f"{name}_sum", step=step), grown.total(f"{name}_count", step=step)),
            p50_s=grown.quantile(name, 0.5, step=step),
            p99_s=grown.quantile(name, 0.99, step=step),
        )
        for step in STEPS
        if step in seen and grown.total(f"{name}_count", step=step)
    ]


def _hosts(now: Sequence[Mapping[Key, float]]) -> list[HostMemory]:
    found = []
    for values in now:
        for (name, labels), available in values.items():
            if name == "muster_host_memory_available_bytes":
                found.append(
                    HostMemory(
                        host=dict(labels)["host"],
                        available_mib=available / 2**20,
                        saved_mib=values.get(("muster_ksm_saved_bytes", labels), 0.0) / 2**20,
                        merging=values.get(("muster_ksm_running", labels), 0.0) == 1,
                        boots_held=values.get(("muster_host_boots_held", labels), 0.0) == 1,
                    )
                )
    return sorted(found, key=lambda host: host.available_mib)


def _mean(total: float, count: float) -> float:
    return total / count if count else 0.0


def _process(old: Scrape | None, now: Scrape) -> Process:
    if now.error is not None:
        return Process(target=now.target, error=now.error)
    grown = _Growth([(old, now)])
    return Process(
        target=now.target,
        requests_per_s=grown.rate("muster_requests_total"),
        messages_per_s=grown.rate("muster_messages_total"),
        cpu=grown.rate("process_cpu_seconds_total"),
        memory_mib=now.values.get(("process_resident_memory_bytes", ()), 0.0) / 2**20,
        failures=grown.total("muster_task_failures_total"),
    )


def _grown(old: Scrape, now: Scrape) -> dict[Key, float]:
    """By how much each counter grew; one that fell belongs to a process that began anew."""
    return {
        key: value - old.values[key] if value >= old.values.get(key, float("inf")) else value
        for key, value in now.values.items()
    }
