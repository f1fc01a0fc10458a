"""`muster demo` with a real guest: pinged, logged into, deleted, and nothing of it left on the machine."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

pytest.importorskip("libvirt")

from built_guest import build_guest
from tests.processes import processes_of

from muster.bench.demo import DemoResult

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.timeout(900)]


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture
def namespace() -> Iterator[str]:
    """A network namespace, so that the demonstration's bridge and rules are kept from everything else here."""
    name = f"muster-demo-{uuid.uuid4().hex[:8]}"
    ip("netns", "add", name)
    ip("-n", name, "link", "set", "lo", "up")
    yield name
    ip("netns", "del", name)


def test_a_real_guest_is_shown_and_taken_away(namespace: str, tmp_path: Path) -> None:
    scratch, output = tmp_path / "scratch", tmp_path / "output"
    scratch.mkdir()
    build_guest()
    command = [sys.executable, "-m", "muster", "demo", "--servers", "20", "--sim-hosts", "2", "--guests", "1"]
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, *command, "--output", str(output)],
        env={**os.environ, "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = msgspec.json.decode((output / "demo.json").read_bytes(), type=DemoResult)
    assert [part.title for part in result.parts] == ["20 simulated servers", "1 real guest"]
    # Any number of guests passes through a host that has room for a few.
    assert result.parts[1].result.options.rolling
    assert {figure.name: figure.ok for figure in result.parts[1].result.figures}["ssh"] == 1
    assert (output / "guests.png").is_file()
    # Nothing is left: no folder, no link but the loopback one, no rules, no process of its.
    assert list(scratch.iterdir()) == []
    assert [line for line in ip("-n", namespace, "-br", "link").splitlines() if not line.startswith("lo ")] == []
    tables = subprocess.run(
        ["ip", "netns", "exec", namespace, "nft", "list", "tables"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert tables.stdout == ""
    assert ip("netns", "pids", namespace) == ""
    assert processes_of(scratch) == []
