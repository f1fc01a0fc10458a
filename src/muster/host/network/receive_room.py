"""Room for requests that come all at once: what a DHCP server has not read yet waits in its socket.

A socket holds `net.core.rmem_default` bytes, by default some 170 requests. What comes beyond is dropped, and its guest
asks again seconds later, with all the others. dnsmasq has no option for it, so its sockets are reached from outside.
Source: pidfd_getfd(2) (Linux 5.6), SO_RCVBUFFORCE in socket(7).
"""

import contextlib
import ctypes
import os
import socket
from pathlib import Path

_PIDFD_GETFD = 438
_SO_RCVBUFFORCE = 33
_ROOM = 4 << 20  # some 3,000 requests; memory is used only by what waits


def make_room(pid: int) -> int:
    """Let more datagrams wait for a process; how many of its sockets have room now, 0 where the kernel refuses."""
    widened = 0
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return 0
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            # A file that was closed meanwhile, or a kernel or policy that shares none: then it stays as it is.
            with contextlib.suppress(OSError):
                if os.readlink(entry).startswith("socket:"):
                    widened += _widen(process, int(entry.name))
    except OSError:
        return widened
    finally:
        os.close(process)
    return widened


def _widen(process: int, number: int) -> bool:
    file = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, process, number, 0)
    if file < 0:
        return False
    with socket.socket(fileno=file) as found:
        if found.type != socket.SOCK_DGRAM or found.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        found.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
        return True
