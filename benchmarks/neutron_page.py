"""Puts what `scripts/bench neutron` found into the documentation.

    python -m benchmarks.neutron_page var/bench/neutron.json

Rewrites what stands between the two marks of docs/neutron.md.
"""

import sys
from pathlib import Path

from benchmarks.page import DOCS, found, put, read

PAGE = DOCS / "neutron.md"
BEGIN = "<!-- what benchmarks.neutron found -->"


def main(source: Path) -> None:
    """Read the JSON, write the page."""
    outcome = read(source)
    put(PAGE, BEGIN, found(outcome, f"Beside {outcome.yardstick}."))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
