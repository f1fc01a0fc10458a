"""What `muster doctor` says of an OpenStack compute node and of a host of Muster, whole: as JSON and as a table.

`UPDATE_GOLDEN=1` writes them anew, for review by diff.
"""

import io
import os
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from tests.unit.doctor.trees import COMPUTE, MUSTER_HOST, facts_of

from muster.doctor.console import drawn
from muster.doctor.diagnosis import diagnose
from muster.doctor.findings import Plan

HERE = Path(__file__).parent


def same(name: str, text: str) -> None:
    path = HERE / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "tree"), [("compute", COMPUTE), ("muster-host", MUSTER_HOST)])
def test_a_host_is_diagnosed_as_ever(tmp_path: Path, name: str, tree: dict[str, str]) -> None:
    plan = Plan(guests=200, idle_timeout_s=900)
    findings = diagnose(facts_of(tmp_path, tree), plan)
    same(f"{name}.json", msgspec.json.format(msgspec.json.encode(findings), indent=1).decode() + "\n")
    console = Console(file=io.StringIO(), width=100, force_terminal=False, color_system=None, legacy_windows=False)
    console.print(drawn(findings, plan, is_whole=False))
    table = console.file.getvalue()  # type: ignore[attr-defined]
    same(f"{name}.txt", "\n".join(line.rstrip() for line in table.splitlines()) + "\n")
