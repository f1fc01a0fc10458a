"""Many descriptors, and waiting for one whatever its number: select(2) takes none beyond 1,023."""

import contextlib
import resource
import select
import signal

#: More than any process of ours needs; some programs that we start go through all that they might have.
_MANY = 1 << 20


def allow_many() -> None:
    """This process and what it starts may have as many as it is let, up to a million.

    A shell's soft limit is 1,024, for the sake of programs that use select(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MANY if hard == resource.RLIM_INFINITY else min(_MANY, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


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
