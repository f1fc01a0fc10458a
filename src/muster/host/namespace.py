"""The network namespace that a host works in: which one it is, where else it can be found, how to enter it.

Invariant: a namespace is known by its boot, device and inode; after a reboot of the machine none is taken for another.
"""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from muster.base.errors import Unsupported

_CLONE_NEWNET = 0x40000000
_OWN = Path("/proc/thread-self/ns/net")
_NAMED = Path("/run/netns")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Namespace(Struct, frozen=True, kw_only=True):
    """A network namespace of one boot of the machine."""

    boot_id: str
    device: int
    inode: int

    @property
    def name(self) -> str:
        """Fit for a file's name."""
        return f"netns-{self.device}-{self.inode}"


def own_namespace() -> Namespace:
    """The network namespace of this thread."""
    return _at(_OWN)


def find(namespace: Namespace) -> Path | None:
    """Where a namespace can be entered: its name, or a process in it. None: it is no more. Looks at each process."""
    if namespace.boot_id != _boot_id():
        return None
    return next((path for path in _places() if _is(path, namespace)), None)


def enter(place: Path) -> None:
    """This thread works in the namespace found there, from now on. Raises Unsupported without the right to."""
    with place.open("rb") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET) != 0:
            raise Unsupported(f"cannot enter the network namespace {place}: {os.strerror(ctypes.get_errno())}")


def _places() -> Iterator[Path]:
    yield _OWN
    if _NAMED.is_dir():
        yield from _NAMED.iterdir()
    yield from (entry / "ns" / "net" for entry in Path("/proc").iterdir() if entry.name.isdecimal())


def _is(path: Path, namespace: Namespace) -> bool:
    try:
        return _at(path) == namespace
    except OSError:  # a process that has ended meanwhile
        return False


def _at(path: Path) -> Namespace:
    found = path.stat()
    return Namespace(boot_id=_boot_id(), device=found.st_dev, inode=found.st_ino)


def _boot_id() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip()
