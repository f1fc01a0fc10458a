"""Puts what the experiment found into the documentation: its table and its chart.

    python -m benchmarks.contention_page var/bench/contention.json

Rewrites what stands between the two marks of docs/addresses.md, and docs/images/contention.png.
"""

import sys
from pathlib import Path

from benchmarks.contention_chart import SAID, draw
from benchmarks.contention_ways import Way
from benchmarks.page import DOCS, Row, found, put, read

PAGE = DOCS / "addresses.md"
BEGIN = "<!-- what benchmarks.contention found -->"
LEGEND = "`>`: stopped there; `-`: left out, because it was stopped at a smaller size."


def main(source: Path) -> None:
    """Read the JSON, write page and chart."""
    outcome = read(source)
    put(PAGE, BEGIN, found(outcome, LEGEND, _said))
    draw(outcome, DOCS / "images" / "contention.png")


def _said(row: Row) -> Row:
    return [SAID[Way(str(row[0]))], *row[1:]]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
