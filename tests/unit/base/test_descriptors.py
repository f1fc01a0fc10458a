"""Waiting for descriptors, also for those that select(2) does not take."""

import fcntl
import os
import resource
import subprocess
from collections.abc import Iterator

import pytest
from tests.commands import running

from muster.base.descriptors import allow_many, end_process, is_readable

BEYOND_SELECT = 1_024


@pytest.fixture
def many_files() -> Iterator[None]:
    """Allowed to a process that was started with a shell's limit, for a moment."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, BEYOND_SELECT), hard))
    allow_many()
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_descriptor_of_a_high_number_is_waited_for(many_files: None) -> None:
    """On a host with some hundred networks every new one once failed its servers with a ValueError."""
    reader, writer = os.pipe()
    high = fcntl.fcntl(reader, fcntl.F_DUPFD_CLOEXEC, BEYOND_SELECT)
    try:
        assert not is_readable(high, 0.01)
        os.write(writer, b"x")
        assert is_readable(high, 60)
    finally:
        for descriptor in (reader, writer, high):
            os.close(descriptor)


def test_what_is_allowed_already_is_left(many_files: None) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert before[0] == min(before[1], 1 << 20)
    allow_many()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


@pytest.mark.parametrize("ignores", ["", "trap '' TERM; "])
def test_a_process_is_ended_whether_it_listens_or_not(ignores: str) -> None:
    with running("sh", "-c", f"{ignores}echo; exec sleep 600", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        pidfd = os.pidfd_open(process.pid)
        try:
            end_process(pidfd, 0.2 if ignores else 60)
            assert is_readable(pidfd, 60)
            end_process(pidfd, 0.2)
        finally:
            os.close(pidfd)
