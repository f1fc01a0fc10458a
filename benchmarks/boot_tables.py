"""The tables of the boot benchmark: how long each way took, where the time went, what it cost. Pure arithmetic."""

from collections.abc import Callable, Sequence
from statistics import median

import msgspec

from benchmarks.boot_cloud import MusterRound
from benchmarks.family import Started
from benchmarks.outcome import Grid
from muster.bench.records import ServersResult
from muster.domain.timeline import STEPS, durations_s


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """One way to start the same guests: its runs, CPU seconds of the guests until all were ready, peak memory."""

    name: str
    results: list[ServersResult]
    guests_s: list[float]
    peak_mib: list[float]
    extrapolated_s: float | None = None

    @property
    def total_s(self) -> float:
        """From the first request until the last guest is gone; the median of the runs."""
        if self.extrapolated_s is not None:
            return self.extrapolated_s
        return median(result.duration_s for result in self.results)

    @property
    def servers(self) -> int:
        """How many each run had."""
        return self.results[0].options.count


def ways_grid(ways: Sequence[Way], serial: Way | None = None) -> Grid:
    """A column for each way, Muster's first."""
    muster = ways[0]
    lines: dict[str, Callable[[Way], str | float]] = {
        "runs": lambda way: len(way.results),
        "total s (median): all ready, then all gone": lambda way: way.total_s,
        "Muster's part of it": lambda way: muster.total_s / way.total_s,
        "the last one ready after s": lambda way: "-" if way.extrapolated_s else median(map(_last_ready, way.results)),
        "boot, p50 s (started to ssh)": lambda way: median(_boots(way)),
        "boot, slowest s": lambda way: max(_boots(way)),
        "CPU s of QEMU per guest": lambda way: median(way.guests_s) / way.servers,
        "memory at its worst, MiB": lambda way: median(way.peak_mib),
    }
    if serial is not None:
        lines["saved against one at a time"] = lambda way: f"{100 * (1 - way.total_s / serial.total_s):.0f} %"
    rows = [[name, *(line(way) for way in ways)] for name, line in lines.items()]
    title = f"{muster.servers} guests: created, pinged, answering ssh, deleted"
    return Grid(title, ["", *(way.name for way in ways)], rows)


def phases_grid(muster: Sequence[ServersResult], throttled: Sequence[ServersResult]) -> Grid:
    """The phases as their users see them, the longest of all guests in each."""
    rows: list[list[str | float]] = []
    for name in ("create", "ping", "ssh", "until ready", "delete"):
        row: list[str | float] = [name]
        for results in (muster, throttled):
            figures = [figure for result in results for figure in result.figures if figure.name == name]
            spreads = [figure.spread for figure in figures if figure.spread]
            row.append(f"{sum(figure.ok for figure in figures)}/{sum(figure.total for figure in figures)}")
            row += [median(s.p50_s for s in spreads), median(s.max_s for s in spreads)] if spreads else ["-", "-"]
        rows.append(row)
    columns = ["", "Muster", "p50 s", "max s", "by hand", "p50 s", "max s"]
    return Grid("the phases, Muster's and by hand throttled", columns, rows)


def steps_grid(rounds: Sequence[MusterRound]) -> Grid:
    """Where Muster's time went: each step of its servers' timelines, from the step before."""
    taken = [durations_s(timeline) for one in rounds for timeline in one.timelines]
    rows: list[list[str | float]] = []
    for step in STEPS[1:]:
        times = sorted(durations[step] for durations in taken if step in durations)
        if times:
            rows.append([step, len(times), times[0], median(times), times[-1]])
    return Grid("Muster's steps, in s from the step before", ["", "servers", "min", "p50", "max"], rows)


def difference_grid(rounds: Sequence[MusterRound], throttled: Sequence[ServersResult]) -> Grid:
    """Muster's round and the throttled one beside it, cut into the same parts."""
    mine = [_muster_parts(one) for one in rounds]
    theirs = [_parts(result) for result in throttled]
    rows: list[list[str | float]] = []
    for name in mine[0]:
        ours, floor = median(part[name] for part in mine), median(part[name] for part in theirs)
        rows.append([name, ours, floor, f"{ours - floor:+.2f}"])
    return Grid("where the difference to by hand, throttled, went, in s", ["", "Muster", "by hand", "difference"], rows)


def costs_grid(rounds: Sequence[MusterRound]) -> Grid:
    """What Muster's servers cost besides their guests, per guest."""
    lines: dict[str, Callable[[MusterRound], float]] = {
        "CPU s of Muster, until ready": lambda one: one.ready.muster_s - one.before.muster_s,
        "CPU s of Muster, to delete": lambda one: one.gone.muster_s - one.ready.muster_s,
        "the client's polls": lambda one: one.polls,
        "CPU s of Muster for them, by what one costs": lambda one: one.polls * one.poll_s,
        "CPU s of libvirtd": lambda one: one.gone.libvirtd_s - one.before.libvirtd_s,
        "CPU s of the client": lambda one: one.result.client_cpu_s,
        "libvirt calls, until ready": lambda one: one.ready.libvirt_calls - one.before.libvirt_calls,
        "libvirt calls, to delete": lambda one: one.gone.libvirt_calls - one.ready.libvirt_calls,
        "messages, until ready": lambda one: one.ready.messages - one.before.messages,
        "messages, to delete": lambda one: one.gone.messages - one.ready.messages,
        "heartbeats (by time, not by guest)": lambda one: one.gone.heartbeats - one.before.heartbeats,
        "forks": lambda one: started(one).forks,
    }
    rows: list[list[str | float]] = [[name, *(_each(line(one), one) for one in rounds)] for name, line in lines.items()]
    names = sorted({name for one in rounds for name in started(one).programs})
    rows += [
        [f"programs, {name}", *(_each(started(one).programs.get(name, 0), one) for one in rounds)] for name in names
    ]
    return Grid("per guest", ["", *(f"round {number}" for number in range(1, len(rounds) + 1))], rows)


def started(one: MusterRound) -> Started:
    """The processes that were started in the round; nothing where they could not be counted."""
    if one.gone.started is None or one.before.started is None:
        return Started()
    return one.gone.started.since(one.before.started)


def _each(value: float, one: MusterRound) -> float:
    return value / one.result.options.count


def _last_ready(result: ServersResult) -> float:
    return max((server.ready_at_s for server in result.servers if server.ready_at_s is not None), default=0.0)


def _boots(way: Way) -> list[float]:
    """From each guest's start, as its user sees it, until ssh answers."""
    spans = [(server.active_at_s, server.ready_at_s) for result in way.results for server in result.servers]
    return [ready - active for active, ready in spans if active is not None and ready is not None] or [0.0]


def _parts(result: ServersResult) -> dict[str, float]:
    started = [server.active_at_s for server in result.servers if server.active_at_s is not None]
    first = min(started, default=0.0)
    last_ready = _last_ready(result)
    return {
        "until the first guest starts": first,
        "until the last guest starts, from there": max(started, default=0.0) - first,
        "until the last guest is ready, from there": last_ready - max(started, default=0.0),
        "until all are gone, from there": result.duration_s - last_ready,
    }


def _muster_parts(one: MusterRound) -> dict[str, float]:
    """The same by the steps' own times, which no poll has made late."""
    starts = [timeline["started"] for timeline in one.timelines if "started" in timeline]
    accepted = min((timeline["accepted"] for timeline in one.timelines if "accepted" in timeline), default=0.0)
    first, last = min(starts, default=0.0) - accepted, max(starts, default=0.0) - accepted
    last_ready = _last_ready(one.result)
    return {
        "until the first guest starts": first,
        "until the last guest starts, from there": last - first,
        "until the last guest is ready, from there": last_ready - last,
        "until all are gone, from there": one.result.duration_s - last_ready,
    }
