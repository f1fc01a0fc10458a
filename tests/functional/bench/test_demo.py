"""`muster demo` without real guests: what it shows, how it ends, and that nothing is left, however it ends."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec
import pytest

from muster.bench.demo import DemoResult
from tests.commands import HANG_S, outcome, started
from tests.processes import processes_of

COMMAND = (sys.executable, "-m", "muster", "demo", "--guests", "0")


class Stand:
    """Where a demonstration runs: `scratch` is its temporary directory, `output` gets its results."""

    def __init__(self, folder: Path) -> None:
        self.scratch = folder / "scratch"
        self.output = folder / "output"
        self.scratch.mkdir()

    def start(self, *arguments: str) -> AbstractAsyncContextManager[Process]:
        environment = {**os.environ, "TMPDIR": str(self.scratch), "COLUMNS": "120"}
        words = (*COMMAND, "--output", str(self.output), *arguments)
        return started(*words, env=environment, stdout=PIPE, stderr=PIPE)

    async def run(self, *arguments: str) -> tuple[int | None, str, str]:
        async with self.start(*arguments) as process:
            return await outcome(process)

    def left(self) -> list[str]:
        """Folders and processes of its cloud that are still there."""
        return [*map(str, self.scratch.iterdir()), *processes_of(self.scratch)]


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


async def test_it_ends_with_a_table_a_chart_and_nothing_left(stand: Stand) -> None:
    status, out, err = await stand.run("--servers", "40", "--sim-hosts", "4")
    assert status == 0, err
    assert "40 of 40" in out
    assert "Everything went well" in out
    assert "Left out: real guests." in out
    chart = stand.output / "simulated.png"
    assert str(chart) in out
    assert chart.read_bytes().startswith(b"\x89PNG")
    result = msgspec.json.decode((stand.output / "demo.json").read_bytes(), type=DemoResult)
    assert [part.title for part in result.parts] == ["40 simulated servers"]
    assert result.ok
    assert stand.left() == []


async def test_scripts_get_json(stand: Stand) -> None:
    status, out, _ = await stand.run("--servers", "2", "--sim-hosts", "1", "--json")
    assert status == 0
    assert msgspec.json.decode(out, type=DemoResult).left_out == "None were asked for."


async def test_failures_are_shown_and_are_its_exit_status(stand: Stand) -> None:
    # One simulated host has 32 processors, and takes 64 servers with one each.
    status, out, _ = await stand.run("--servers", "70", "--sim-hosts", "1")
    assert status == 1
    assert "64 of 70" in out
    assert "No valid host was found" in out
    assert "Not everything went well" in out
    assert stand.left() == []


async def test_what_was_found_is_shown_also_where_it_cannot_be_written(stand: Stand) -> None:
    """It ended with a stack, and without the table."""
    stand.output.mkdir()
    (stand.output / "demo.json").symlink_to("/dev/full")
    status, out, err = await stand.run("--servers", "2", "--sim-hosts", "1")
    assert status == 1
    assert "2 of 2" in out
    assert "demo.json cannot be written" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", [b"Starting", b"creating"])
async def test_an_interruption_leaves_nothing(stand: Stand, number: signal.Signals, moment: bytes) -> None:
    async with stand.start("--servers", "400", "--sim-hosts", "20") as process, asyncio.timeout(HANG_S):
        assert process.stderr is not None
        while moment not in await process.stderr.readline():
            assert not process.stderr.at_eof()
        if moment == b"Starting":
            while not list(stand.scratch.glob("*/log")):
                await asyncio.sleep(0.01)
        process.send_signal(number)
        status, _, err = await outcome(process)
    assert status == 130, err
    assert "interrupted" in err
    assert "Traceback" not in err
    assert stand.left() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--servers", "0"], "--servers"), (["--output", "/dev/null/x"], "choose another --output")],
)
async def test_bad_input_is_explained_before_anything_starts(stand: Stand, arguments: list[str], said: str) -> None:
    status, _, err = await stand.run(*arguments)
    assert status not in (0, None)
    assert said in err
    assert "Traceback" not in err
    assert stand.left() == []
