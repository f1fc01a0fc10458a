"""What a terminal shows of a soak: one table that lives while it goes, and the report when it is over."""

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from muster.base.tables import figures_table
from muster.soak.report import Combination, Figure, Report, report
from muster.soak.run import Progress

_MOST_FAULTS = 10
_MOST_COMBINATIONS = 12
_MOST_LEFTOVERS = 20


def live(progress: Progress) -> RenderableType:
    """How it goes, narrow enough for 80 columns."""
    said = report(progress.saved, with_course=False)
    total_s = said.scenario.duration_s
    head = Table.grid(padding=(0, 1))
    head.add_row(
        ProgressBar(total=total_s, completed=min(progress.active_s, total_s), width=30),
        Text(f"{clock(progress.active_s)} of {clock(total_s)}"),
        Text(progress.doing, style="dim"),
    )
    state = Text.assemble(
        f"{progress.servers} servers, {said.lives.get('begun', 0):,} begun, {said.ok_operations:,} operations, ",
        (f"{said.failed_operations:,} failed", "red" if said.failed_operations else "green"),
    )
    if progress.away_s is not None:
        state.append(f"; the cloud does not answer for {clock(progress.away_s)}", style="bold red")
    elif said.outages:
        state.append(f"; away {said.outages} times, {clock(said.away_s)} in all")
    return Group(head, state, _figures(said.operations, "operation"), *_combinations(said), *_faults(said, 3))


def line(progress: Progress) -> str:
    """The same in one line, for a log."""
    said = report(progress.saved, with_course=False)
    away = "" if progress.away_s is None else f"; the cloud does not answer for {clock(progress.away_s)}"
    return (
        f"{clock(progress.active_s)} of {clock(said.scenario.duration_s)}: {progress.doing}; "
        f"{progress.servers} servers, {said.ok_operations} operations, {said.failed_operations} failed{away}"
    )


def drawn(said: Report) -> RenderableType:
    """The report."""
    parts = [
        _title(said),
        _figures(said.operations, "operation (seconds)"),
        *_combinations(said),
        *_faults(said, _MOST_FAULTS),
        _notes(said),
    ]
    parts += [Text(f"not removed: {one}", style="bold red") for one in said.leftovers[:_MOST_LEFTOVERS]]
    return Group(*parts)


def _title(said: Report) -> Text:
    where = said.environment.cloud + (f" ({said.environment.region})" if said.environment.region else "")
    verdict = Text("within what is allowed", "green") if said.ok else Text("more failed than is allowed", "red")
    if said.leftovers:
        verdict = Text("something is left behind", "red")
    elif not said.ok_operations:
        verdict = Text("nothing went well", "red")
    return Text.assemble(
        f"{said.scenario.users} users for {clock(said.active_s)} on {where}: "
        f"{said.ok_operations:,} operations went well, ",
        f"{said.failed_operations:,} failed ({said.failed_percent:.3g} %): ",
        verdict,
        "" if said.over else Text(" (not over)", "yellow"),
    )


def _figures(figures: list[Figure], first: str) -> Table:
    table = figures_table(first, "ok", "failed", "%", "p50", "p90", "p99", "max")
    for one in figures:
        table.add_row(
            one.name,
            f"{one.ok:,}",
            _red(f"{one.failed:,}", one.failed),
            _red(f"{one.percent:.3g}", one.failed),
            *(seconds(value) for value in (one.p50_s, one.p90_s, one.p99_s, one.max_s)),
        )
    return table


def _combinations(said: Report) -> list[RenderableType]:
    if not said.combinations:
        return []
    table = figures_table("versions of the hosts", "hosts", "ok", "failed", "%", "create p50", "p99")
    for one in said.combinations[:_MOST_COMBINATIONS]:
        table.add_row(Text(one.name), *_combination(one))
    if len(said.combinations) > _MOST_COMBINATIONS:
        table.add_row(f"and {len(said.combinations) - _MOST_COMBINATIONS} more: see the JSON")
    return [table]


def _combination(one: Combination) -> list[str | Text]:
    create = next((figure for figure in one.operations if figure.name == "create"), None)
    return [
        f"{len(one.hosts):,}",
        f"{one.ok:,}",
        _red(f"{one.failed:,}", one.failed),
        _red(f"{one.failed_percent:.3g}", one.failed),
        seconds(create.p50_s if create else None),
        seconds(create.p99_s if create else None),
    ]


def _faults(said: Report, most: int) -> list[RenderableType]:
    if not said.faults:
        return []
    table = figures_table("failed", "times")
    table.add_column("why", overflow="fold")
    for fault in said.faults[:most]:
        table.add_row(fault.operation, f"{fault.times:,}", Text(fault.text))
    if len(said.faults) > most:
        table.add_row("", "", f"and {len(said.faults) - most} other reasons")
    return [table]


def _notes(said: Report) -> Text:
    lives = said.lives
    failed = sum(one.failed for one in said.requests)
    lines = [
        f"servers: {lives.get('begun', 0):,} begun, {lives.get('taken over', 0):,} taken over, "
        f"{lives.get('ended', 0):,} deleted, {said.most_servers:,} at a time at most; "
        f"turns that nobody could take: {said.missed_turns:,}",
        f"requests: {sum(one.ok for one in said.requests):,}, and {failed:,} that failed; "
        f"the cloud was away {said.outages:,} times, {clock(said.away_s)} in all",
        f"interrupted {len(said.interruptions_at_s)} times; this program used {said.client_cpu_s:.1f} CPU seconds and "
        f"{said.client_rss_mib:.0f} MiB; run {said.run}",
    ]
    return Text("\n".join(lines))


def _red(text: str, failed: int) -> Text:
    return Text(text, style="red" if failed else "")


def seconds(value: float | None) -> str:
    """Seconds for a person."""
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def clock(value_s: float) -> str:
    """1:02:03, or 2:03."""
    whole = int(value_s)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
