"""Ports that whoever is told of them may bind later, and nobody takes meanwhile.

The kernel gives ports of a range of its own to every outgoing connection, and to whoever binds port 0: one that was
free a moment ago may be any program's now. Those here lie below that range, and each stays this process's, among all
that ask here, until it ends: it holds an abstract socket that is named for the port.
"""

import contextlib
import socket
from collections.abc import Iterable
from pathlib import Path
from random import SystemRandom

_FIRST, _USUAL_END = 20_000, 32_768
_KERNELS_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A port that is free on all addresses of this machine."""
    return free_ports(1)


def free_ports(count: int) -> int:
    """The first of so many free ports side by side. Raises OSError where there are none."""
    places = list(range(_FIRST, _end() - count))
    SystemRandom().shuffle(places)
    for first in places:
        if _take(range(first, first + count)):
            return first
    raise OSError(f"there are no {count} free ports side by side")


def _take(ports: Iterable[int]) -> bool:
    with contextlib.ExitStack() as stack:
        tokens = []
        for port in ports:
            token, probe = stack.enter_context(socket.socket(socket.AF_UNIX)), stack.enter_context(socket.socket())
            try:
                token.bind(f"\0muster-port-{port}")
                probe.bind(("", port))
            except OSError:
                return False
            tokens.append(token)
        for token in tokens:
            token.detach()  # open until this process ends
    return True


def _end() -> int:
    """Where the kernel's range begins, if there is room before it."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        end = int(_KERNELS_RANGE.read_text().split()[0])
        if end > _FIRST + 1_000:
            return end
    return _USUAL_END
