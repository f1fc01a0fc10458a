"""What a terminal shows of a demonstration when it is over: one table, and what was left out."""

from collections.abc import Callable

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from muster.bench.console import leftover_line, seconds
from muster.bench.demo import DemoResult
from muster.bench.records import Figure, ServersResult

NOTHING = "-"
MOST_FAULTS = 5


def report(result: DemoResult) -> RenderableType:
    """The table, with a column for each half."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for part in result.parts:
        table.add_column(part.title, justify="right")
    for label, text in _ROWS.items():
        cells = [text(part.result) for part in result.parts]
        if set(cells) != {NOTHING}:
            table.add_row(label, *cells)
    lines: list[RenderableType] = [table, *_bad_news(result)]
    if result.left_out is not None:
        lines.append(Text(f"Left out: real guests. {result.left_out}", style="yellow"))
    lines.append(_verdict(result))
    return Group(*lines)


def _bad_news(result: DemoResult) -> list[Text]:
    lines = []
    for part in result.parts:
        for fault in part.result.faults[:MOST_FAULTS]:
            lines.append(Text(f"{fault.servers} of {part.title} failed in {fault.phase}: {fault.text}", style="red"))
        lines += [leftover_line(leftover) for leftover in part.result.leftovers[:MOST_FAULTS]]
    return lines


def _verdict(result: DemoResult) -> Text:
    took = f"ready after {result.start_s:.1f} s, all done after {result.duration_s:.0f} s"
    if result.ok:
        return Text(f"Everything went well and nothing is left: {took}.", style="green")
    return Text(f"Not everything went well: {took}.", style="red")


def _figure(result: ServersResult, name: str) -> Figure | None:
    return next((figure for figure in result.figures if figure.name == name), None)


def _ok(name: str) -> Callable[[ServersResult], str]:
    def text(result: ServersResult) -> str:
        figure = _figure(result, name)
        return f"{figure.ok:,} of {figure.total:,}" if figure else NOTHING

    return text


def _last(name: str) -> Callable[[ServersResult], str]:
    def text(result: ServersResult) -> str:
        figure = _figure(result, name)
        return f"{seconds(figure.spread.max_s)} s" if figure and figure.spread else NOTHING

    return text


def _median(name: str) -> Callable[[ServersResult], str]:
    def text(result: ServersResult) -> str:
        figure = _figure(result, name)
        return f"{seconds(figure.spread.p50_s)} s" if figure and figure.spread else NOTHING

    return text


def _rate(result: ServersResult) -> str:
    figure = _figure(result, "create")
    return f"{figure.per_s:,.1f}" if figure and figure.per_s else NOTHING


def _at_once(result: ServersResult) -> str:
    return f"{result.options.max_alive or result.options.count:,}"


def _errors(result: ServersResult) -> str:
    return f"{sum(result.traffic.errors.values())}, {sum(result.traffic.retries.values())}"


_ROWS: dict[str, Callable[[ServersResult], str]] = {
    "at once": _at_once,
    "POST answered with 202": _ok("POST accepted"),
    "ACTIVE": _ok("create"),
    "answered ping": _ok("ping"),
    "logged in by ssh": _ok("ssh"),
    "deleted": _ok("delete"),
    "errors, retries": _errors,
    "addresses given twice": lambda result: str(len(result.shared_addresses)),
    "per second to ACTIVE": _rate,
    "the last POST answered after": _last("POST accepted"),
    "the last one ACTIVE after": _last("create"),
    "from request to login, median": _median("until ready"),
    "from request to login, longest": _last("until ready"),
}
