"""Charts of commands, drawn with matplotlib: loading it takes half of a command's start, and most draw none."""

import importlib
from pathlib import Path


def draw(chart: str, result: object, file: Path) -> None:
    """Draw `result` with the module `chart`, which is loaded only now. Raises what its `draw` raises."""
    importlib.import_module(chart).draw(result, file)
