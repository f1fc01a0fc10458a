"""What a terminal shows of a picture: one sentence that says what to look at, then the tables behind it."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from muster.base.tables import figures_table
from muster.top.rates import Picture, Process, Wait

_MOST_ROWS = 12


def drawn(picture: Picture) -> RenderableType:
    """The whole picture, narrow enough for 80 columns."""
    tables = [_processes(picture), _waits(picture), _batches(picture)]
    if picture.phases:
        tables.append(_phases(picture))
    if picture.hosts:
        tables.append(_hosts(picture))
    return Group(_headline(picture), *tables)


def _headline(picture: Picture) -> Text:
    silent = [process for process in picture.processes if process.error is not None]
    answering = len(picture.processes) - len(silent)
    text = Text.assemble(
        (f"{answering} of {len(picture.processes)} processes answer", "red" if silent else "green"),
        f"; {picture.active_per_s:,.1f} servers/s ACTIVE, {picture.redecided_per_s:,.1f} batches/s decided again, "
        f"messages p99 {_ms(picture.delivery_p99_s)} ms\n",
    )
    return text.append_text(_contended(picture.most_contended))


def _contended(wait: Wait | None) -> Text:
    if wait is None:
        return Text("Nothing worth naming waits.", style="green")
    return Text.assemble(
        ("Most contended: ", "bold"),
        (wait.thing, "bold yellow"),
        f": {wait.waiting:,.2f} wait for it at a time, p99 {_ms(wait.p99_s)} ms",
    )


def _processes(picture: Picture) -> Table:
    table = figures_table("process", "requests/s", "messages/s", "CPUs", "MiB", "failures")
    for process in picture.processes:
        table.add_row(Text(process.target), *_process(process))  # [fd00::1] would be taken for a style
    return table


def _process(process: Process) -> tuple[str | Text, ...]:
    if process.error is not None:
        return (Text(process.error, style="red"),)
    return (
        f"{process.requests_per_s:,.1f}",
        f"{process.messages_per_s:,.1f}",
        f"{process.cpu:.2f}",
        f"{process.memory_mib:,.0f}",
        Text(f"{process.failures:,.0f}", style="red" if process.failures else ""),
    )


def _waits(picture: Picture) -> Table:
    table = figures_table("waits for", "waiting", "per s", "mean ms", "p50 ms", "p99 ms")
    for wait in picture.waits[:_MOST_ROWS]:
        table.add_row(
            wait.thing,
            f"{wait.waiting:,.2f}",
            f"{wait.per_s:,.1f}",
            *(_ms(seconds) for seconds in (wait.mean_s, wait.p50_s, wait.p99_s)),
        )
    return table


def _batches(picture: Picture) -> Table:
    table = figures_table("batches of", "per s", "items each", "mean ms", "queued")
    for batch in picture.batches[:_MOST_ROWS]:
        table.add_row(
            batch.coalescer,
            f"{batch.per_s:,.1f}",
            f"{batch.mean_items:,.1f}",
            _ms(batch.mean_s),
            f"{batch.queued:,.0f}",
        )
    return table


def _phases(picture: Picture) -> Table:
    table = figures_table("new servers: to", "mean ms", "p50 ms", "p99 ms")
    for phase in picture.phases:
        table.add_row(phase.step, *(_ms(seconds) for seconds in (phase.mean_s, phase.p50_s, phase.p99_s)))
    return table


def _hosts(picture: Picture) -> Table:
    """The hosts with the least memory first."""
    table = figures_table("real hosts", "MiB available", "MiB saved by KSM", "KSM", "boots")
    for host in picture.hosts[:_MOST_ROWS]:
        table.add_row(
            host.host,
            f"{host.available_mib:,.0f}",
            f"{host.saved_mib:,.0f}",
            "on" if host.merging else "off",
            Text("wait for memory", style="red") if host.boots_held else "go on",
        )
    return table


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.1f}"
