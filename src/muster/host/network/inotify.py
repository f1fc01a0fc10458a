"""How the agent knows that dnsmasq has read its host entries: inotify says when the file, or the folder, was closed.

dnsmasq is single-threaded: once it has closed a file of entries after reading it, every packet that arrives later is
answered with these entries. Source: inotify(7); dnsmasq reads a new file at once, all files again after SIGHUP.
Invariant: a wait is for one event after the watch began, so nothing that happened before can answer it.
"""

import ctypes
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from muster.base.descriptors import is_readable
from muster.base.errors import Transient

_CLOSE_NOWRITE, _ISDIR = 0x10, 0x40000000
_EVENT = struct.Struct("iIII")


class ReadWatch:
    """Watches one folder for being read by others. Use as a context; watching begins on entry."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = -1

    def __enter__(self) -> Self:
        libc = ctypes.CDLL(None, use_errno=True)
        self._file = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._file < 0 or libc.inotify_add_watch(self._file, os.fsencode(self._folder), _CLOSE_NOWRITE) < 0:
            reason = os.strerror(ctypes.get_errno())
            self.__exit__(None, None, None)
            raise Transient(f"no inotify watch: {reason}; raise fs.inotify.max_user_instances and max_user_watches")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def wait(self, name: str | None, timeout_s: float) -> bool:
        """Wait until the file `name` (None: the folder itself, with all its files) has been read; False: it was not."""
        until = time.monotonic() + timeout_s
        while (left := until - time.monotonic()) > 0:
            if is_readable(self._file, left) and name in self._events():
                return True
        return False

    def _events(self) -> list[str | None]:
        return list(_parse(os.read(self._file, 1 << 16)))


def _parse(data: bytes) -> Iterator[str | None]:
    offset = 0
    while offset < len(data):
        _, mask, _, length = _EVENT.unpack_from(data, offset)
        offset += _EVENT.size
        name = data[offset : offset + length].rstrip(b"\0").decode()
        offset += length
        yield None if mask & _ISDIR and not name else name
