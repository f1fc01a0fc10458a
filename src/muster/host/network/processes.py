"""Daemons that outlive the agent: found again by pid file and command line, signalled without pid races.

Invariant: a signal goes only to a process whose command line holds the expected argument.
"""

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

from muster.base.descriptors import end_process


def find(pid_file: Path, argument: str) -> int | None:
    """The pid in `pid_file`, if that process runs and has `argument` among its arguments; pids are reused."""
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if os.fsencode(argument) in arguments else None


def send(pid_file: Path, argument: str, number: signal.Signals) -> bool:
    """Signal the daemon of this pid file; False when it does not run."""
    return _with_process(pid_file, argument, lambda process: signal.pidfd_send_signal(process, number)) is not None


def stop(pid_file: Path, argument: str, timeout_s: float) -> None:
    """End the daemon and wait until it has ended: first politely, after `timeout_s` by force."""
    _with_process(pid_file, argument, lambda process: end_process(process, timeout_s))


def _with_process(pid_file: Path, argument: str, action: Callable[[int], None]) -> bool | None:
    pid = find(pid_file, argument)
    if pid is None:
        return None
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        # Looked at again now that the file holds on to this very process.
        if find(pid_file, argument) != pid:
            return None
        with contextlib.suppress(ProcessLookupError):
            action(process)
            return True
        return None
    finally:
        os.close(process)
