"""Files that charts are drawn to. Apart from the drawing: who only asks need not load matplotlib."""

from pathlib import Path

from muster.base.errors import Invalid

_SUFFIXES = (".png", ".svg", ".pdf")


def check_suffix(file: Path) -> None:
    """Raises Invalid where a chart cannot be written in the form that the file's suffix says."""
    if file.suffix not in _SUFFIXES:
        raise Invalid(f"a chart is written as {', '.join(_SUFFIXES)}, not as {file.name}")
