"""Tempest, unmodified, against `muster up` with simulated hosts: all passes, but for what is listed as not offered."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cloud_process import cloud_process
from tests.system.tempest.configuration import write_configuration
from tests.system.tempest.judgement import FAILED, Result, judged, read_known, result_of
from tests.system.tempest.report import report

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
BIN = ROOT / ".venv-tempest/bin"
REPORT = ROOT / "var/tempest/report.md"

HOSTS = 8
SELECTION = r"^tempest\.api\.(identity|compute|network|image)\."
WORKERS = 2
RUN_TIMEOUT_S = 5_000

# openstacksdk warns of what it does itself.
SDK = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
pytestmark = [pytest.mark.system, pytest.mark.timeout(RUN_TIMEOUT_S + 300), SDK]


class Tempest:
    """Tempest's command in a folder of its own, with its `tempest.conf` there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(folder), "LC_ALL": "C.UTF-8"}

    def run(self, selection: str, workers: int) -> list[Result]:
        """Run tests; their results, whether they pass or not."""
        arguments = ["--config-file", "tempest.conf", "--concurrency", str(workers), "--regex", selection]
        command = ["tempest", "run", *arguments]
        with (
            (self._folder / "run.log").open("wb") as output,
            _group(command, self._folder, self._environment, output) as process,
        ):
            process.wait(RUN_TIMEOUT_S)
        stream = self._asked("stestr", "last", "--subunit")
        told = self._asked("python", str(HERE / "read_results.py"), given=stream)
        return [result_of(json.loads(line)) for line in told.splitlines()]

    def names(self, selection: str) -> list[str]:
        """The tests that are selected, without tags; after a run."""
        arguments = ["--config-file", "tempest.conf", "--list-tests", "--regex", selection]
        listed = self._asked("tempest", "run", *arguments).decode().split()
        return [re.sub(r"\[.*\]$", "", name) for name in listed if name.startswith("tempest.")]

    def _asked(self, *command: str, given: bytes = b"") -> bytes:
        done = subprocess.run(
            command, input=given, cwd=self._folder, env=self._environment, capture_output=True, timeout=300, check=False
        )
        if not done.stdout:
            pytest.fail(f"{command[0]} said nothing: {done.stderr.decode()}")
        return done.stdout


@contextmanager
def _group(command: list[str], folder: Path, environment: dict[str, str], output: object) -> Iterator[subprocess.Popen]:
    """A process with children, which all end with the block."""
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def _concerning(names: Sequence[str], known: Mapping[str, str]) -> dict[str, str]:
    """The part of the list that is about some tests."""
    return {pattern: why for pattern, why in known.items() if any(re.search(pattern, name) for name in names)}


def test_what_is_offered_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not (BIN / "tempest").exists():
        pytest.fail("there is no Tempest: run scripts/tempest-venv")
    selection = os.environ.get("MUSTER_TEMPEST_TESTS", SELECTION)
    workers = int(os.environ.get("MUSTER_TEMPEST_WORKERS", WORKERS))
    lowest = os.environ.get("MUSTER_TEMPEST_MICROVERSION")
    known = read_known(HERE / "not_offered.toml")
    with cloud_process(tmp_path, HOSTS) as cloud:
        write_configuration(cloud, HOSTS, tmp_path, lowest)
        tempest = Tempest(tmp_path)
        start = time.monotonic()
        results = tempest.run(selection, workers)
        seconds = time.monotonic() - start
        names = tempest.names(selection)
        said = cloud.log()
    if lowest is not None:  # tests of older versions are skipped: that nothing fails by a pattern says nothing
        known = _concerning([one.name for one in results if one.status == FAILED], known)
    elif selection != SELECTION:
        known = _concerning(names, known)
    judgement = judged(results, names, known)

    text = report(judgement, seconds, workers)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(text)
    with capsys.disabled():
        sys.stdout.write("\n" + text)
    assert not judgement.wrong
    assert "Traceback" not in said
    assert judgement.passed
