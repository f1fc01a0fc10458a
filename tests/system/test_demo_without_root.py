"""`muster demo` as somebody who is not root: the simulated half runs, the real one is left out, and it says so."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from tests.processes import processes_of

from muster.bench.demo import DemoResult

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

# Nobody, in a user namespace: as able as root of nothing but of reading this tree, which may be root's alone.
AS_NOBODY = ("unshare", "--user", "--map-user=65534", "--map-group=65534")


def test_the_simulated_half_runs_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    home, scratch, output = tmp_path / "home", tmp_path / "scratch", tmp_path / "output"
    home.mkdir()
    scratch.mkdir()
    command = [sys.executable, "-m", "muster", "demo", "--servers", "20", "--sim-hosts", "2", "--output", str(output)]
    done = subprocess.run(
        [*(AS_NOBODY if os.geteuid() == 0 else ()), *command],
        env={**os.environ, "HOME": str(home), "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert "They need root" in said
    result = msgspec.json.decode((output / "demo.json").read_bytes(), type=DemoResult)
    assert [part.title for part in result.parts] == ["20 simulated servers"]
    assert {figure.name: figure.ok for figure in result.parts[0].result.figures}["create"] == 20
    assert (output / "simulated.png").is_file()
    assert not (output / "guests.png").exists()
    # Nothing is left, and no guest's image was built for nobody.
    assert list(scratch.iterdir()) == []
    assert list(home.rglob("*.qcow2")) == []
    assert processes_of(scratch) == []
