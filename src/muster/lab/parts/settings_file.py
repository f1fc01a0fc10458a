"""Settings files of Muster's own processes."""

import json
from collections.abc import Mapping
from pathlib import Path

from muster.lab.site import write_private

#: The file's name in a part's folder.
NAME = "muster.toml"


def write_settings(part_folder: Path, top: Mapping[str, str], tables: Mapping[str, Mapping[str, str | int]]) -> None:
    """Write a TOML file that only its owner can read: it has passwords in its URLs."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in top.items()]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    write_private(part_folder / NAME, ("\n".join(lines) + "\n").encode())
