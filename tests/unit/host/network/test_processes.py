"""Daemons are found by pid file and command line, and never mistaken for another process."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster.host.network import processes
from muster.host.network.inotify import ReadWatch


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)", "--mark"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    (tmp_path / "pid").write_text(f"{process.pid}\n")
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_daemon_is_found_and_stopped(daemon: subprocess.Popen[bytes], tmp_path: Path) -> None:
    assert processes.find(tmp_path / "pid", "--mark") == daemon.pid
    processes.stop(tmp_path / "pid", "--mark", 60)
    assert daemon.wait(300) == -signal.SIGTERM
    assert processes.find(tmp_path / "pid", "--mark") is None


def test_another_process_with_the_same_pid_is_left_alone(daemon: subprocess.Popen[bytes], tmp_path: Path) -> None:
    assert processes.find(tmp_path / "pid", "--mar") is None
    assert not processes.send(tmp_path / "pid", "--other", signal.SIGKILL)
    processes.stop(tmp_path / "pid", "--other", 5)
    assert daemon.poll() is None


@pytest.mark.parametrize("text", ["", "x", "999999999"])
def test_a_useless_pid_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "pid").write_text(text)
    assert processes.find(tmp_path / "pid", "--mark") is None


def test_no_pid_file(tmp_path: Path) -> None:
    assert not processes.send(tmp_path / "pid", "--mark", signal.SIGTERM)


def test_a_read_is_seen_and_a_write_is_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with ReadWatch(tmp_path) as watch:
        (tmp_path / "a").write_text("y")
        assert not watch.wait("a", 0.05)
        (tmp_path / "a").read_text()
        assert watch.wait("a", 60)
        os.listdir(tmp_path)
        assert watch.wait(None, 60)
        assert not watch.wait(None, 0.05)
