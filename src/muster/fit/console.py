"""What a terminal shows of a run: what is going on, a line per try, then the table and the advice."""

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from muster.base.tables import figures_table
from muster.fit.observer import in_words
from muster.fit.records import Advice, FitResult, Room, Step


class ProgressObserver:
    """A bar for what is going on, and a line per try above it; for `with`."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._guests = 0
        self._bar = self._progress.add_task("", total=None)

    def __enter__(self) -> "ProgressObserver":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def says(self, text: str) -> None:
        """In the bar's place."""
        self._progress.reset(self._bar, description=text, total=None)

    def tries(self, guests: int) -> None:
        """Kept for the bar."""
        self._guests = guests

    def counts(self, what: str, done: int, total: int) -> None:
        """The bar."""
        self._progress.update(self._bar, description=f"{in_words(self._guests)}: {what}", completed=done, total=total)

    def found(self, step: Step) -> None:
        """A line above the bar."""
        self._progress.console.print(step_line(step))

    def left(self, what: str) -> None:
        """Said at once: an interrupted run has no table."""
        self._progress.console.print(Text(f"not removed: {what}", style="bold red"))


class PlainObserver:
    """For a pipe or a log file: a line per step."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def says(self, text: str) -> None:
        """One line."""
        self._console.print(Text(text))

    def tries(self, guests: int) -> None:
        """One line."""
        self._console.print(Text(f"trying {in_words(guests)}"))

    def counts(self, what: str, done: int, total: int) -> None:
        """Nothing: a log is no bar."""

    def found(self, step: Step) -> None:
        """One line."""
        self._console.print(step_line(step))

    def left(self, what: str) -> None:
        """One line, at once: an interrupted run has no table."""
        self._console.print(Text(f"not removed: {what}", style="bold red"))


def step_line(step: Step) -> Text:
    """One try, in a line."""
    if step.reason is not None:
        return Text(f"{in_words(step.guests)} cannot be had: {step.reason}", style="yellow")
    text = f"{in_words(step.guests)}: p50 {_ms(step.p50_ms)}, p95 {_ms(step.p95_ms)}, p99 {_ms(step.p99_ms)} ms"
    return Text(text + (" - within the bound" if step.within else " - beyond the bound"), style=_colour(step))


def report(result: FitResult) -> RenderableType:
    """Everything a person wants to know after a run."""
    parts: list[RenderableType] = [_title(result), _table(result), _advice(result)]
    if result.failure is not None:
        parts.append(_failure(result.failure, result.advice.guests or result.options.start))
    parts += [Text(f"not removed: {what}", style="bold red") for what in result.leftovers]
    return Group(*parts)


def _title(result: FitResult) -> Text:
    room, options = result.room, result.options
    guest = f"guests of {room.guest_vcpus} processor{'s' * (room.guest_vcpus > 1)} and {room.guest_ram_mib:,} MiB"
    return Text(
        f"{guest} on {_where(room)} of {result.cloud}; bound: p{options.percentile} of a probe ({options.probe}) "
        f"at most {options.bound_ms:g} ms"
    )


def _where(room: Room) -> str:
    if not room.hosts:
        return "hosts"
    names = ", ".join(room.hosts[:3]) + (f" and {len(room.hosts) - 3} more" if len(room.hosts) > 3 else "")
    return f"{names} ({room.vcpus or '?'} processors, {room.ram_mib or 0:,} MiB)"


def _table(result: FitResult) -> Table:
    """The tries in order of the number of guests."""
    times = ("p50 ms", "p95 ms", "p99 ms")
    table = figures_table("guests", "memory", "CPU", *times, "probes", "failed", "KSM saves")
    table.columns[0].justify = "right"
    table.add_column("")
    for step in sorted(result.steps, key=lambda step: step.guests):
        table.add_row(*_row(step))
    return table


def _row(step: Step) -> tuple[str | Text, ...]:
    ratios = (str(step.guests), _ratio(step.ram_ratio), _ratio(step.cpu_ratio))
    if step.reason is not None:
        return (*ratios, "-", "-", "-", "-", "-", "-", Text(step.reason, style="yellow"))
    saved = "-" if step.saved_mib is None else f"{step.saved_mib:,.0f} MiB"
    verdict = Text("within" if step.within else "beyond", style=_colour(step))
    times = (_ms(step.p50_ms), _ms(step.p95_ms), _ms(step.p99_ms))
    return (*ratios, *times, str(step.probes), str(step.failed), saved, verdict)


def _advice(result: FitResult) -> Text:
    advice, room = result.advice, result.room
    if not advice.guests and result.failure is not None:
        return Text("No number of guests is known to keep to the bound.", style="bold red")
    if not advice.guests and result.steps and all(step.reason for step in result.steps):
        return Text("The cloud gave no guests at all: nothing was measured.", style="bold red")
    if not advice.guests:
        return Text("Not even the fewest guests that were tried kept to the bound.", style="bold red")
    said = Text(f"Up to {in_words(advice.guests)}{_at(advice)}: ", style="bold green").append(
        _LIMITS[advice.limited_by], style="not bold"
    )
    if advice.ram_overcommit is not None and advice.cpu_overcommit is not None:
        said.append(
            f"\nTo let in as many of this flavor and no more: a memory overcommit of {advice.ram_overcommit:.2f} and "
            f"one of CPU of {advice.cpu_overcommit:.2f} or more, or the other way round.",
            style="default",
        )
    if room.others:
        said.append(
            f"\n{room.others} other servers were on the hosts; the ratios leave them out, and what hosts keep for "
            "themselves too.",
            style="yellow",
        )
    return said


def _failure(failure: str, start: int) -> Text:
    """Why it ended early, and how to go on from there."""
    said = Text(f"The run ended early, with {failure}", style="bold red")
    return said.append(f"\nOnce the cloud does it, run it again with --start {start}.", style="default")


_LIMITS = {
    "bound": "beyond it the bound breaks.",
    "cloud": "the cloud gave no more, and the bound still held; raise its overcommit to look further.",
    "failure": "what held until the run ended.",
    "most": "nobody looked further; raise --max-guests to do so.",
}


def _at(advice: Advice) -> str:
    if advice.ram_ratio is None or advice.cpu_ratio is None:
        return ""
    return f", memory {advice.ram_ratio:.2f} and CPU {advice.cpu_ratio:.2f} times what there is"


def _colour(step: Step) -> str:
    return "green" if step.within else "red"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
