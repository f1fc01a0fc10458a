"""The command itself: exit status, files, and what Ctrl-C does."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from muster.bench.records import from_json
from tests.commands import HANG_S, finished, outcome, started

from .conftest import Lab

COMMAND = [sys.executable, "-c", "from muster.cli.bench import bench; bench()", "servers", "--cloud", "fake"]


def environment(lab: Lab) -> dict[str, str]:
    return {**os.environ, "OS_CLIENT_CONFIG_FILE": str(lab.directory / "clouds.yaml"), "COLUMNS": "160"}


async def run(lab: Lab, *arguments: str) -> tuple[int | None, str, str]:
    return await finished(*COMMAND, *arguments, env=environment(lab))


@pytest.mark.parametrize("suffix", ["png", "svg"])
async def test_a_good_run_ends_with_0_and_writes_what_was_asked(lab: Lab, tmp_path: Path, suffix: str) -> None:
    await lab.cloud()
    json, chart = tmp_path / "r.json", tmp_path / f"r.{suffix}"
    status, out, err = await run(
        lab, "--count", "30", "--phases", "create,delete", "--json", str(json), "--chart", str(chart)
    )
    assert status == 0, err
    assert "30/30" in out
    assert "errors 0, retries 0" in out
    assert chart.read_bytes().startswith(b"\x89PNG" if suffix == "png" else b"<?xml")
    result = from_json(json.read_bytes())
    assert result.ok
    assert len(result.servers) == 30


async def test_failures_end_with_1_and_are_shown(lab: Lab) -> None:
    await lab.cloud(error_every=2)
    status, out, _ = await run(lab, "--count", "4", "--phases", "create,delete")
    assert status == 1
    assert "No valid host was found" in out
    assert "2/4" in out


async def test_what_was_measured_is_shown_also_where_it_cannot_be_written(lab: Lab, tmp_path: Path) -> None:
    """A full disk lost the whole run once."""
    await lab.cloud()
    (tmp_path / "r.json").symlink_to("/dev/full")
    status, out, err = await run(lab, "--count", "3", "--phases", "create,delete", "--json", str(tmp_path / "r.json"))
    assert status == 1
    assert "3/3" in out
    assert "cannot be written" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--count", "0"], "count"),
        (["--phases", "create,dance"], "dance"),
        (["--image", "windows", "--phases", "create"], "windows"),
        (["--chart", "r.bmp"], ".bmp"),
        (["--json", "/nowhere/r.json"], "/nowhere"),
    ],
)
async def test_bad_input_is_explained_and_changes_nothing(lab: Lab, arguments: list[str], said: str) -> None:
    cloud = await lab.cloud()
    status, _, err = await run(lab, *arguments)
    assert status not in (0, None)
    assert said in err
    assert "Traceback" not in err
    assert cloud.servers == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_an_interruption_removes_everything(lab: Lab, number: signal.Signals) -> None:
    cloud = await lab.cloud(build_s=60)
    words = (*COMMAND, "--count", "10", "--key", "--phases", "create,ssh,delete")
    async with started(*words, env=environment(lab), stderr=PIPE) as process, asyncio.timeout(HANG_S):
        while len(cloud.alive()) < 10:
            await asyncio.sleep(0.05)
        process.send_signal(number)
        status, _, err = await outcome(process)
    assert status == 130, err
    assert "removed everything" in err
    assert "interrupted" in err
    assert not cloud.alive()
    assert not cloud.keypairs
    assert not cloud.groups
