"""From the servers' moments to the table's figures. Pure arithmetic.

Invariant: a server that did not reach a phase's end counts in `total` and in no percentile.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import msgspec

from muster.base.percentile import percentile
from muster.bench.options import Phase, ServersOptions
from muster.bench.records import Fault, Figure, ServerRecord, Spread
from muster.client.faults import anonymous

Moment = Callable[[ServerRecord], float | None]


class Span(msgspec.Struct, frozen=True):
    """A row of the table: where it starts and ends, and which servers were to go through it."""

    name: str
    start: Moment
    end: Moment
    counts: Callable[[ServerRecord], bool] = lambda record: True


def spans(options: ServersOptions) -> list[Span]:
    """The rows for a run, in the order in which the phases happen."""
    rows = [
        Span("POST accepted", lambda r: r.requested_at_s, lambda r: r.accepted_at_s),
        Span("create", lambda r: r.requested_at_s, lambda r: r.active_at_s),
    ]
    if options.wants(Phase.PING):
        rows.append(Span("ping", lambda r: r.active_at_s, lambda r: r.pinged_at_s))
    if options.wants(Phase.SSH):
        rows.append(Span("ssh", _ssh_start, lambda r: r.login_at_s if options.login else r.banner_at_s))
    if options.wants(Phase.PING) or options.wants(Phase.SSH):
        rows.append(Span("until ready", lambda r: r.requested_at_s, lambda r: r.ready_at_s))
    if options.wants(Phase.DELETE):
        rows.append(Span("delete", lambda r: r.delete_requested_at_s, lambda r: r.gone_at_s, _was_there))
    return rows


def _ssh_start(record: ServerRecord) -> float | None:
    return record.pinged_at_s if record.pinged_at_s is not None else record.active_at_s


def _was_there(record: ServerRecord) -> bool:
    return record.id is not None


def figures(records: Sequence[ServerRecord], options: ServersOptions) -> list[Figure]:
    """The table's rows. `records` are in order of submission."""
    return [_figure(span, [record for record in records if span.counts(record)]) for span in spans(options)]


def _figure(span: Span, records: Sequence[ServerRecord]) -> Figure:
    durations = [_duration(span, record) for record in records]
    reached = [duration for duration in durations if duration is not None]
    return Figure(
        name=span.name,
        total=len(records),
        ok=len(reached),
        spread=spread(reached),
        per_s=_rate(span, records),
        quartile_p50_s=[_median(part) for part in _quarters(durations)],
    )


def _duration(span: Span, record: ServerRecord) -> float | None:
    start, end = span.start(record), span.end(record)
    return None if start is None or end is None else end - start


def _rate(span: Span, records: Sequence[ServerRecord]) -> float | None:
    ends = [end for record in records if (end := span.end(record)) is not None]
    starts = [start for record in records if (start := span.start(record)) is not None]
    if not ends or not starts or max(ends) <= min(starts):
        return None
    return len(ends) / (max(ends) - min(starts))


def spread(durations: Iterable[float]) -> Spread | None:
    """Minimum, percentiles and maximum; None of nothing."""
    ordered = sorted(durations)
    if not ordered:
        return None
    p50, p90, p99 = (percentile(ordered, percent) for percent in (50, 90, 99))
    return Spread(ordered[0], p50, p90, p99, ordered[-1])


def _quarters(durations: Sequence[float | None]) -> list[Sequence[float | None]]:
    bounds = [len(durations) * part // 4 for part in range(5)]
    return [durations[start:end] for start, end in pairwise(bounds)]


def _median(part: Sequence[float | None]) -> float | None:
    reached = sorted(duration for duration in part if duration is not None)
    return percentile(reached, 50) if reached else None


def faults(records: Iterable[ServerRecord]) -> list[Fault]:
    """The distinct failures, the most frequent first; texts that differ in ids or addresses only are one."""
    counted: Counter[tuple[Phase, str]] = Counter()
    for record in records:
        if record.failed_phase is not None:
            counted[record.failed_phase, anonymous(record.fault or "")] += 1
        if record.delete_fault is not None and record.failed_phase is not Phase.DELETE:
            counted[Phase.DELETE, anonymous(record.delete_fault)] += 1
    return [Fault(phase, text, servers) for (phase, text), servers in counted.most_common()]


def shared_addresses(records: Iterable[ServerRecord]) -> list[str]:
    """Addresses that more than one server was given."""
    counted = Counter(record.address for record in records if record.address is not None)
    return sorted(address for address, servers in counted.items() if servers > 1)
