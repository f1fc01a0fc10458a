"""What a benchmark found: tables for people, the same as JSON for scripts, and whether its aims are met."""

import os
import platform
from pathlib import Path

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from muster.bench.records import ServersResult

SCHEMA = "muster.benchmark/1"
# A machine on which others work gives other times: said beside the figures when the load at the start is above this.
BUSY_LOAD = 0.7


class Aim(msgspec.Struct, frozen=True, kw_only=True):
    """One promise: `value` must be at least or at most `limit`.

    `exact` ones say whether the result is right (no error, no address twice) and hold at any speed; the others say how
    fast.
    """

    what: str
    value: float
    at_least: float | None = None
    at_most: float | None = None
    exact: bool = False

    @property
    def met(self) -> bool:
        """Whether it is kept."""
        low = self.at_least is None or self.value >= self.at_least
        return low and (self.at_most is None or self.value <= self.at_most)

    @property
    def asked(self) -> str:
        """The limit in words."""
        return f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"


class Grid(msgspec.Struct, frozen=True):
    """A table: column names, and rows of text or numbers."""

    title: str
    columns: list[str]
    rows: list[list[str | float]]


class Series(msgspec.Struct, frozen=True):
    """A line of a chart: `ys` over `xs`."""

    name: str
    xs: list[float]
    ys: list[float]


class Run(msgspec.Struct, frozen=True):
    """A run of `muster bench servers`, or one in its form, for whoever wants to look closer; it has a chart."""

    name: str
    result: ServersResult


class Machine(msgspec.Struct, frozen=True):
    """Where it ran, and how busy the machine was just before: the load is the mean of the last minute."""

    cpus: int
    python: str
    system: str
    load_before: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One benchmark's result. `yardstick` says what the ratios are relative to; it was measured in the same run."""

    schema: str = SCHEMA
    name: str
    quick: bool
    yardstick: str
    machine: Machine
    duration_s: float
    grids: list[Grid]
    aims: list[Aim]
    notes: list[str] = []
    series: list[Series] = []
    runs: list[Run] = []

    @property
    def ok(self) -> bool:
        """Whether the aims are met; a quick run is too short to judge speed by."""
        return all(aim.met for aim in self.aims if aim.exact or not self.quick)


def machine() -> Machine:
    """The machine as it is now."""
    return Machine(
        cpus=len(os.sched_getaffinity(0)),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}",
        load_before=round(os.getloadavg()[0], 2),
    )


def write(outcome: Outcome, folder: Path) -> Path:
    """Write the JSON as `folder/NAME.json`; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{outcome.name}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(outcome), indent=1) + b"\n")
    return path


def show(outcome: Outcome, console: Console) -> None:
    """Print the tables, the yardstick and the aims."""
    size = "quick, not for figures" if outcome.quick else "full"
    console.print(f"\n[bold]{outcome.name}[/] ({size}; {outcome.duration_s:.0f} s; {outcome.machine.cpus} CPUs)")
    for grid in outcome.grids:
        console.print(_table(grid))
    console.print(f"Yardstick: {outcome.yardstick}", highlight=False)
    for aim in outcome.aims:
        verdict = "[green]met[/]" if aim.met else "[red]NOT met[/]"
        console.print(f"  {verdict}: {aim.what}: {number(aim.value)} (aim {aim.asked})", highlight=False)
    for note in outcome.notes:
        console.print(f"  {note}", style="dim", highlight=False)
    if outcome.machine.load_before > BUSY_LOAD:
        load = outcome.machine.load_before
        console.print(f"  The machine was busy (load {load:g}): ratios hold, times do not.", style="yellow")


def _table(grid: Grid) -> Table:
    table = Table(title=grid.title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(grid.columns):
        table.add_column(column, justify="right" if index else "left")
    for row in grid.rows:
        table.add_row(*(cell if isinstance(cell, str) else number(cell) for cell in row))
    return table


def number(value: float) -> str:
    """A number with as many digits as mean something."""
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
