"""From a soak's counters to what people and scripts read. Pure. Also the schema of `--json`."""

from collections.abc import Iterable, Mapping

import msgspec

from muster.soak.folder import Environment, Saved
from muster.soak.histogram import Histogram
from muster.soak.scenario import Scenario
from muster.soak.statistics import Away, Row
from muster.soak.versions import NO_ANSWER, NOWHERE

SCHEMA = "muster.soak/1"
# In the order of a server's life; what is not named here comes after, by name.
_ORDER = (
    "create", "ping", "ssh", "read", "metadata", "security group", "attach", "detach",
    "reboot", "hard reboot", "stop", "start", "rebuild", "delete",
)  # fmt: skip


class Figure(msgspec.Struct, frozen=True):
    """An operation or a request: how many went well and failed; how long the former took, percentiles within 10 %."""

    name: str
    ok: int
    failed: int
    mean_s: float | None
    p50_s: float | None
    p90_s: float | None
    p99_s: float | None
    max_s: float | None

    @property
    def percent(self) -> float:
        """How many failed."""
        return percent(self.failed, self.ok)


class Combination(msgspec.Struct, frozen=True):
    """All operations on the hosts that run one combination of versions."""

    name: str
    hosts: list[str]
    ok: int
    failed: int
    failed_percent: float
    operations: list[Figure]


class Fault(msgspec.Struct, frozen=True):
    """A distinct failure, ids taken out, and how often it was met."""

    operation: str
    text: str
    times: int


class Point(msgspec.Struct, frozen=True):
    """The operations that ended in one piece of time, beginning at `at_s`; percentiles by operation."""

    at_s: float
    ok: int
    failed: int
    away_s: float
    most_servers: int
    p50_s: dict[str, float]
    p90_s: dict[str, float]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A soak so far, or as a whole. Combinations come with the most failures, in percent, first;
    what concerns no host comes last."""

    schema: str = SCHEMA
    run: str
    over: bool
    environment: Environment
    scenario: Scenario
    active_s: float
    interruptions_at_s: list[float]
    lives: dict[str, int]
    missed_turns: int
    most_servers: int
    ok_operations: int
    failed_operations: int
    failed_percent: float
    operations: list[Figure]
    combinations: list[Combination]
    faults: list[Fault]
    outages: int
    away_s: float
    newest_outages: list[Away]
    requests: list[Figure]
    leftovers: list[str]
    client_cpu_s: float
    client_rss_mib: float
    point_s: float
    course: list[Point]

    @property
    def ok(self) -> bool:
        """Whether there were operations, no more of them failed than allowed, and nothing is left behind."""
        allowed = self.failed_percent <= self.scenario.allowed_percent
        return self.ok_operations > 0 and allowed and not self.leftovers


def report(saved: Saved, *, with_course: bool = True) -> Report:
    """The report on what was counted. Without its course it costs a tenth (some ms), for whoever looks every second."""
    statistics = saved.statistics
    whole = _together(statistics.rows.values())
    ok, failed = sum(row.ok.count for row in whole.values()), sum(row.failed for row in whole.values())
    faults = [
        Fault(operation, text, times) for operation, texts in statistics.faults.items() for text, times in texts.items()
    ]
    combinations = [_combination(name, rows, saved.hosts.get(name, [])) for name, rows in statistics.rows.items()]
    return Report(
        run=saved.run,
        over=saved.over,
        environment=saved.environment,
        scenario=saved.scenario,
        active_s=saved.active_s,
        interruptions_at_s=saved.interruptions,
        lives=statistics.lives,
        missed_turns=saved.missed_turns,
        most_servers=statistics.most_servers,
        ok_operations=ok,
        failed_operations=failed,
        failed_percent=percent(failed, ok),
        operations=_figures(whole),
        combinations=sorted(combinations, key=_rank),
        faults=sorted(faults, key=lambda fault: (-fault.times, fault.operation, fault.text)),
        outages=statistics.outages,
        away_s=statistics.away_s,
        newest_outages=statistics.newest_outages,
        requests=_figures(statistics.requests),
        leftovers=saved.leftovers,
        client_cpu_s=saved.client_cpu_s,
        client_rss_mib=saved.client_rss_mib,
        point_s=statistics.slot_s,
        course=_course(saved) if with_course else [],
    )


def to_json(said: Report) -> bytes:
    """The report as JSON, indented."""
    return msgspec.json.format(msgspec.json.encode(said), indent=1) + b"\n"


def percent(failed: int, ok: int) -> float:
    """The share that failed."""
    return 100.0 * failed / (failed + ok) if failed + ok else 0.0


def _together(several: Iterable[Mapping[str, Row]]) -> dict[str, Row]:
    whole: dict[str, Row] = {}
    for rows in several:
        for name, row in rows.items():
            one = whole.setdefault(name, Row())
            one.failed += row.failed
            one.ok.merge(row.ok)
    return whole


def _combination(name: str, rows: Mapping[str, Row], hosts: list[str]) -> Combination:
    ok, failed = sum(row.ok.count for row in rows.values()), sum(row.failed for row in rows.values())
    return Combination(name, hosts, ok, failed, percent(failed, ok), _figures(rows))


def _rank(one: Combination) -> tuple[bool, float, str]:
    return one.name in (NO_ANSWER, NOWHERE), -one.failed_percent, one.name


def _figures(rows: Mapping[str, Row]) -> list[Figure]:
    names = [name for name in _ORDER if name in rows] + sorted(rows.keys() - set(_ORDER))
    return [_figure(name, rows[name]) for name in names]


def _figure(name: str, row: Row) -> Figure:
    took = row.ok
    p50_s, p90_s, p99_s = (took.percentile_s(share) for share in (50, 90, 99))
    mean_s, max_s = (took.sum_s / took.count, took.max_s) if took.count else (None, None)
    return Figure(name, took.count, row.failed, mean_s, p50_s, p90_s, p99_s, max_s)


def _course(saved: Saved) -> list[Point]:
    slot_s = saved.statistics.slot_s
    return [
        Point(
            at_s=index * slot_s,
            ok=slot.ok,
            failed=slot.failed,
            away_s=slot.away_s,
            most_servers=slot.most_servers,
            p50_s=_percentiles(slot.took, 50),
            p90_s=_percentiles(slot.took, 90),
        )
        for index, slot in enumerate(saved.statistics.slots)
    ]


def _percentiles(took: Mapping[str, Histogram], share: float) -> dict[str, float]:
    found = {name: histogram.percentile_s(share) for name, histogram in took.items()}
    return {name: value for name, value in found.items() if value is not None}
