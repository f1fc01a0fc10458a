"""Taps by ioctl, a fraction of netlink's cost. Source: the kernel's Documentation/networking/tuntap.rst.

Invariant: a tap outlives its file only after `persist`; a crash before that leaves nothing behind.
"""

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator, Sequence

from muster.base.errors import Conflict, Transient, Unsupported

_TUNSETIFF, _TUNSETPERSIST, _TUNSETOWNER = 0x400454CA, 0x400454CB, 0x400454CC
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
_DEVICE = "/dev/net/tun"


@contextlib.contextmanager
def open_taps(names: Sequence[str], owner_uid: int | None) -> Iterator[list[int]]:
    """Make taps that live as long as the context, unless persisted in it; yields their files in order.

    Raises Unsupported (no tun driver or no right to use it), Conflict (an interface that is no free tap has the
    name), Transient. Cost: three system calls per tap.
    """
    files: list[int] = []
    try:
        for name in names:
            files.append(_open())
            _attach(files[-1], name, owner_uid)
        yield files
    finally:
        for file in files:
            os.close(file)


def persist(files: Sequence[int]) -> None:
    """Let these taps outlive their files."""
    for file in files:
        fcntl.ioctl(file, _TUNSETPERSIST, 1)


def _open() -> int:
    try:
        return os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError) as error:
        raise Unsupported(f"{_DEVICE} cannot be opened; load the tun module (modprobe tun) and run as root") from error
    except OSError as error:
        raise Transient(f"{_DEVICE} cannot be opened: {error}; raise the limit of open files") from error


def _attach(file: int, name: str, owner_uid: int | None) -> None:
    try:
        fcntl.ioctl(file, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
        if owner_uid is not None:
            fcntl.ioctl(file, _TUNSETOWNER, owner_uid)
    except PermissionError as error:
        raise Unsupported("taps need root (CAP_NET_ADMIN)") from error
    except OSError as error:
        raise Conflict(f"the tap {name} cannot be made ({error}); another interface may have its name") from error
