"""Each benchmark in its smallest form: it runs to its end, its results are right, and scripts can read them."""

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from pathlib import Path

import msgspec
import pytest

from benchmarks.__main__ import NAMES
from benchmarks.outcome import Outcome
from tests.commands import HANG_S, outcome, started

ROOT = Path(__file__).parents[3]
LONGEST_S = 800.0


async def benchmarks(*arguments: str, **environment: str) -> tuple[int | None, str]:
    words, env = (sys.executable, "-m", "benchmarks", *arguments), os.environ | environment
    async with started(*words, cwd=ROOT, env=env, stdout=PIPE, stderr=STDOUT) as process:
        status, out, _ = await outcome(process, within_s=LONGEST_S)
    return status, out


# Ten processes and three engines each, or guests that boot: too much for every run of the tests.
LONG = {"boot", "boot-admission", "contention", "ports-cluster", "workers"}


# Network namespaces.
AS_ROOT = {"boot", "boot-admission", "dhcp", "firewall"}
MARKS = {name: [pytest.mark.chaos] * (name in LONG) + [pytest.mark.root] * (name in AS_ROOT) for name in NAMES}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS[name]) for name in NAMES])
async def test_it_runs_and_is_right(name: str, tmp_path: Path) -> None:
    status, said = await benchmarks("--quick", "--output", str(tmp_path), name)
    assert status == 0, said
    outcome = msgspec.json.decode((tmp_path / f"{name}.json").read_bytes(), type=Outcome)
    assert (outcome.name, outcome.quick) == (name, True)
    assert [aim.what for aim in outcome.aims if aim.exact]
    assert all(aim.met for aim in outcome.aims if aim.exact)
    assert "Yardstick:" in said


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_growth_on_postgresql(tmp_path: Path) -> None:
    arguments = ("--quick", "--output", str(tmp_path), "servers-scale")
    status, said = await benchmarks(*arguments, MUSTER_BENCH_DATABASE="postgresql")
    assert status == 0, said
    outcome = msgspec.json.decode((tmp_path / "servers-scale.json").read_bytes(), type=Outcome)
    assert all(aim.met for aim in outcome.aims if aim.exact)
    assert "on postgresql" in said


async def test_an_unknown_database_is_refused() -> None:
    status, said = await benchmarks("--quick", "servers-scale", MUSTER_BENCH_DATABASE="oracle")
    assert status == 1
    assert "MUSTER_BENCH_DATABASE='oracle' is none of sqlite, postgresql" in said
    assert "Traceback" not in said


async def test_an_unknown_name_is_refused() -> None:
    status, said = await benchmarks("--quick", "speed")
    assert status == 2
    assert "servers-scale" in said
    assert "Traceback" not in said


@pytest.mark.timeout(900)
async def test_a_run_that_is_told_to_end_leaves_no_process(tmp_path: Path) -> None:
    words = (sys.executable, "-m", "benchmarks", "--output", str(tmp_path), "ports")
    async with started(*words, cwd=ROOT, stdout=DEVNULL, stderr=DEVNULL) as process, asyncio.timeout(HANG_S):
        children: set[int] = set()
        while not children:  # clouds and floors, each in a process of its own
            children = _children(process.pid)
            await asyncio.sleep(0.05)
        process.terminate()
        assert await process.wait() == 130
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


def _children(pid: int) -> set[int]:
    """The processes whose parent it is."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # one that has ended meanwhile
            if int(status.read_text().rpartition(")")[2].split()[1]) == pid:
                found.add(int(status.parent.name))
    return found
