"""Puts what the experiment found into the documentation: its table and its chart.

    python -m benchmarks.contention_page var/bench/contention.json

Rewrites what stands between the two marks of docs/addresses.md, and docs/images/contention.png.
"""

import sys
from pathlib import Path

import msgspec

from benchmarks.contention_chart import SAID, draw
from benchmarks.contention_ways import Way
from benchmarks.outcome import Grid, Outcome, number

PAGE = Path(__file__).parents[1] / "docs" / "addresses.md"
CHART = PAGE.parent / "images" / "contention.png"
BEGIN, END = "<!-- what benchmarks.contention found -->", "<!-- until here -->"


def main(source: Path) -> None:
    """Read the JSON, write page and chart."""
    outcome = msgspec.json.decode(source.read_bytes(), type=Outcome)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{found(outcome)}\n{END}{after}")
    draw(outcome, CHART)


def found(outcome: Outcome) -> str:
    """The outcome in Markdown."""
    where = outcome.machine
    head = (
        f"One run of {outcome.duration_s / 60:.0f} minutes on {where.cpus} processors, load before it "
        f"{where.load_before:g}. `>`: stopped there; `-`: left out, because it was stopped at a smaller size."
    )
    aims = [
        f"- {'met' if aim.met else '**not met**'}: {aim.what}: {number(aim.value)} (aim {aim.asked})"
        for aim in outcome.aims
    ]
    return "\n\n".join(["", head, *map(_table, outcome.grids), "\n".join(aims), _notes(outcome.notes)]).strip()


def _table(grid: Grid) -> str:
    rows = [
        [SAID[Way(str(row[0]))], *(cell if isinstance(cell, str) else number(cell) for cell in row[1:])]
        for row in grid.rows
    ]
    lines = [grid.columns, ["---", *["---:"] * (len(grid.columns) - 1)], *rows]
    return f"**{grid.title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _notes(notes: list[str]) -> str:
    return "\n".join(f"- {note}" for note in notes)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
