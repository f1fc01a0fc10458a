"""Free ports are given to one only, can be bound, and are none of those that the kernel gives away."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.commands import running

from benchmarks import free_ports as module
from benchmarks.free_ports import free_port, free_ports

#: Takes 30 of the 60 ports after the one that it is told, until it is told to end.
OTHER = """
import sys
from benchmarks import free_ports as module
module._FIRST = int(sys.argv[1])
module._end = lambda: module._FIRST + 60
print(*(module.free_port() for _ in range(30)), flush=True)
input()
"""


def test_two_processes_are_never_given_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are few, so that they would be."""
    first = free_port()
    monkeypatch.setattr(module, "_FIRST", first)
    monkeypatch.setattr(module, "_end", lambda: first + 60)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with running(sys.executable, "-c", OTHER, str(first), cwd=Path(__file__).parents[3], **pipes) as other:
        assert other.stdout is not None
        theirs = set(map(int, other.stdout.readline().split()))
        mine = _all_that_are_left()
        other.communicate("\n")
    assert len(theirs) == 30
    assert first not in mine | theirs
    assert not mine & theirs


def _all_that_are_left() -> set[int]:
    found = set()
    while True:
        try:
            found.add(free_port())
        except OSError:
            return found


def test_they_can_be_bound_and_one_that_is_bound_is_not_given() -> None:
    first = free_ports(3)
    for port in range(first, first + 3):
        with socket.socket() as one:
            one.bind(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert not module._take([taken.getsockname()[1]])


def test_none_is_of_the_kernels_range() -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    if low > 21_000:
        assert free_ports(5) + 5 <= low
