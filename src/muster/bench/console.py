"""What a terminal shows of a run: progress bars while it goes, tables when it is over."""

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from muster.base.tables import figures_table
from muster.bench.observer import SilentObserver
from muster.bench.options import Phase
from muster.bench.records import Figure, Leftover, ServersResult

MOST_FAULTS = 5
MOST_LEFTOVERS = 20


class ProgressObserver:
    """One bar per phase, and a line that says what is going on; for `with`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
        )
        self._bars: dict[Phase, TaskID] = {}
        self._failures: dict[Phase, int] = {}
        self._status = self._progress.add_task("", total=None, note="", visible=False)

    def __enter__(self) -> "ProgressObserver":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def says(self, text: str) -> None:
        """Show the text as a line of its own above the bars."""
        self._progress.console.print(Text(text + " ...", style="dim"))

    def expects(self, phase: Phase, servers: int) -> None:
        """A bar for the phase."""
        self._bars[phase] = self._progress.add_task(phase.value, total=servers, note="")

    def passed(self, phase: Phase) -> None:
        """One step of its bar."""
        self._progress.advance(self._bars[phase])

    def failed(self, phase: Phase, reason: str) -> None:
        """The number of failures beside its bar."""
        self._failures[phase] = self._failures.get(phase, 0) + 1
        self._progress.update(self._bars[phase], note=f"[red]{self._failures[phase]} failed")

    def left(self, leftover: Leftover) -> None:
        """Said at once: an interrupted run has no table."""
        self._progress.console.print(leftover_line(leftover))


class PlainObserver(SilentObserver):
    """For a pipe or a log file: a line per step, and what could not be removed."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def says(self, text: str) -> None:
        """One line."""
        self._console.print(Text(text))

    def left(self, leftover: Leftover) -> None:
        """One line, at once: an interrupted run has no table."""
        self._console.print(leftover_line(leftover))


def leftover_line(leftover: Leftover) -> Text:
    """What could not be removed, for a person to remove."""
    return Text(f"not removed: {leftover.kind} {leftover.id}: {leftover.reason}", style="bold red")


def report(result: ServersResult) -> RenderableType:
    """Everything a person wants to know after a run."""
    parts: list[RenderableType] = [_title(result), _figures(result), _quarters(result), _notes(result)]
    if result.faults:
        parts.append(_faults(result))
    parts += [leftover_line(leftover) for leftover in result.leftovers[:MOST_LEFTOVERS]]
    if result.kept:
        parts.append(Text("kept: " + ", ".join(result.kept[:MOST_LEFTOVERS])))
    return Group(*parts)


def _title(result: ServersResult) -> Text:
    environment = result.environment
    where = f"{environment.cloud}" + (f" ({environment.region})" if environment.region else "")
    verdict = (
        Text("everything went well", style="green") if result.ok else Text("not everything went well", style="red")
    )
    return Text.assemble(f"{result.options.crowd}, on {where}: ", verdict)


def _figures(result: ServersResult) -> Table:
    """Narrow enough for 80 columns, with the longest names and 100,000 servers."""
    table = figures_table("seconds", "ok", "%", "min", "p50", "p90", "p99", "max", "per s")
    for figure in result.figures:
        table.add_row(*_row(figure))
    return table


def _quarters(result: ServersResult) -> Table:
    table = figures_table("p50 of the servers submitted", "first", "second", "third", "last quarter")
    for figure in result.figures:
        table.add_row(figure.name, *map(seconds, figure.quartile_p50_s))
    return table


def _row(figure: Figure) -> list[str]:
    spread = figure.spread
    values = [spread.min_s, spread.p50_s, spread.p90_s, spread.p99_s, spread.max_s] if spread else [None] * 5
    percent = f"{100 * figure.ok / figure.total:.4g}" if figure.total else "-"
    rate = "-" if figure.per_s is None else f"{figure.per_s:.1f}"
    return [figure.name, f"{figure.ok}/{figure.total}", percent, *map(seconds, values), rate]


def seconds(value: float | None) -> str:
    """Seconds for a person: three digits that matter, at least to the millisecond."""
    if value is None:
        return "-"
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _notes(result: ServersResult) -> Text:
    traffic, polling = result.traffic, result.polling
    requests, errors = sum(traffic.requests.values()), sum(traffic.errors.values())
    retries = sum(traffic.retries.values())
    lines = [
        f"requests {requests}, connections {traffic.connections}, errors {errors}{_details(traffic.errors)}, "
        f"retries {retries}{_details(traffic.retries)}",
        f"states were seen at most {polling.mean_lag_s:.2f} s late on average, "
        f"{polling.longest_lag_s:.2f} s ever ({polling.polls} polls, {polling.aborted} failed)",
        f"took {result.duration_s:.2f} s; the client used {result.client_cpu_s:.2f} CPU seconds, "
        f"{1000 * result.client_cpu_s / result.options.count:.2f} ms per server",
    ]
    if result.shared_addresses:
        lines.append(f"addresses given to more than one server: {', '.join(result.shared_addresses[:MOST_LEFTOVERS])}")
    return Text("\n".join(lines))


def _details(counts: dict[str, int]) -> str:
    return f" ({', '.join(f'{what}: {number}' for what, number in counts.items())})" if counts else ""


def _faults(result: ServersResult) -> Table:
    table = figures_table("failed in", "servers", style="bold red")
    table.add_column("why")
    for fault in result.faults[:MOST_FAULTS]:
        table.add_row(fault.phase.value, str(fault.servers), Text(fault.text))
    if len(result.faults) > MOST_FAULTS:
        table.add_row("", "", f"and {len(result.faults) - MOST_FAULTS} other reasons: see --json")
    return table
