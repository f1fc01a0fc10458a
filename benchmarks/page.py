"""Puts what a benchmark found into a page of the documentation, between two marks."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from benchmarks.outcome import Grid, Outcome, number

DOCS = Path(__file__).parents[1] / "docs"
END = "<!-- until here -->"
Row = list[str | float]


def read(source: Path) -> Outcome:
    """The outcome that a benchmark has written."""
    return msgspec.json.decode(source.read_bytes(), type=Outcome)


def put(page: Path, begin: str, text: str) -> None:
    """Write `text` where the page has the mark `begin`, in place of what stands between it and `END`."""
    before, mark, rest = page.read_text().partition(begin)
    if not mark:
        raise ValueError(f"{page} has no mark {begin}")
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{begin}\n{text}\n{END}{after}")


def found(outcome: Outcome, legend: str = "", said: Callable[[Row], Row] = lambda row: row) -> str:
    """The outcome in Markdown; `said` puts a row into words."""
    where = outcome.machine
    head = (
        f"One run of {outcome.duration_s / 60:.0f} minutes on {where.cpus} processors, load before it "
        f"{where.load_before:g}. {legend}".strip()
    )
    aims = [
        f"- {'met' if aim.met else '**not met**'}: {aim.what}: {number(aim.value)} (aim {aim.asked})"
        for aim in outcome.aims
    ]
    notes = "\n".join(f"- {note}" for note in outcome.notes)
    return "\n\n".join(["", head, *(_table(grid, said) for grid in outcome.grids), "\n".join(aims), notes]).strip()


def _table(grid: Grid, said: Callable[[Row], Row]) -> str:
    rows = [[cell if isinstance(cell, str) else number(cell) for cell in said(row)] for row in grid.rows]
    lines = [grid.columns, ["---", *["---:"] * (len(grid.columns) - 1)], *rows]
    return f"**{grid.title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)
