"""Waiting for a file descriptor, whatever its number: select(2) takes none beyond 1,023, and a busy host has more."""

import contextlib
import select
import signal


def is_readable(descriptor: int, timeout_s: float) -> bool:
    """Whether there is something to read within this time; of a pidfd, whether its process ends. Blocks."""
    waiter = select.poll()
    waiter.register(descriptor, select.POLLIN)
    return bool(waiter.poll(max(0.0, timeout_s) * 1_000))


def end_process(pidfd: int, timeout_s: float) -> None:
    """The process has ended: asked to, and after `timeout_s` by force. Blocks."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)
        if is_readable(pidfd, timeout_s):
            return
