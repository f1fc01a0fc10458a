"""Which processes are started by whom, counted by the kernel: every fork and exec, however short the process lives.

Source: the kernel's process connector (linux/connector.h, linux/cn_proc.h; CONFIG_PROC_EVENTS). It speaks to root in
the machine's first namespaces only.
"""

import asyncio
import contextlib
import os
import socket
import struct
from collections import Counter
from collections.abc import Iterator

import msgspec

_NETLINK_CONNECTOR, _CN_IDX_PROC, _CN_VAL_PROC = 11, 1, 1
_LISTEN, _IGNORE = 1, 2
_FORK, _EXEC, _EXIT = 0x1, 0x2, 0x80000000
_HEADERS = 16 + 20  # nlmsghdr, cn_msg
_EVENT = struct.Struct("=IIQ")  # what, cpu, timestamp
_BUFFER_BYTES = 32 * 1024 * 1024
_SO_RCVBUFFORCE = 33


class Started(msgspec.Struct, frozen=True):
    """What a process and its descendants have started: forks (threads are none), and programs, as `starter: program`
    by the names of their files."""

    forks: int = 0
    programs: dict[str, int] = {}

    def since(self, before: "Started") -> "Started":
        """What has come since."""
        more = Counter(self.programs)
        more.subtract(before.programs)
        return Started(self.forks - before.forks, {name: count for name, count in more.items() if count})


class Family:
    """Counts for each process that this one starts what becomes of it, orphans included."""

    def __init__(self, connector: socket.socket) -> None:
        self._connector = connector
        self._own = os.getpid()
        self._root_of: dict[int, int] = {}
        self._program_of: dict[int, str] = {}
        self._forks: Counter[int] = Counter()
        self._programs: dict[int, Counter[str]] = {}
        self.lost = False

    def started(self, root: int) -> Started:
        """What the child `root` of this process and its descendants have started so far."""
        self.read()
        return Started(self._forks[root], dict(self._programs.get(root, {})))

    def programs(self) -> Counter[str]:
        """What all children of this process and their descendants have started so far, as in `Started`."""
        self.read()
        return sum(self._programs.values(), Counter())

    def read(self) -> None:
        """Take in what has happened."""
        while True:
            try:
                data = self._connector.recv(65536)
            except BlockingIOError:
                return
            except OSError:  # more happened than the buffer holds
                self.lost = True
                return
            self._take(data[_HEADERS:])

    def _take(self, event: bytes) -> None:
        what, _, _ = _EVENT.unpack_from(event)
        if what == _FORK:
            _, parent, child, child_process = struct.unpack_from("=iiii", event, _EVENT.size)
            root = child if parent == self._own else self._root_of.get(parent)
            if child == child_process and root is not None:
                self._root_of[child] = root
                self._program_of[child] = self._program_of.get(parent, "")
                self._forks[root] += parent != self._own
        elif what == _EXEC:
            _, process = struct.unpack_from("=ii", event, _EVENT.size)
            if (root := self._root_of.get(process)) is not None:
                starter, program = self._program_of.get(process, ""), _program(process)
                self._programs.setdefault(root, Counter())[f"{starter}: {program}"] += 1
                self._program_of[process] = program
        elif what == _EXIT:
            thread, process = struct.unpack_from("=ii", event, _EVENT.size)
            if thread == process:
                self._root_of.pop(process, None)
                self._program_of.pop(process, None)


@contextlib.contextmanager
def watched_family() -> Iterator[Family | None]:
    """Counting; None where the kernel does not tell. To be called where an event loop runs, in its thread."""
    try:
        connector = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_CONNECTOR)
    except OSError:
        yield None
        return
    loop = asyncio.get_running_loop()
    with connector:
        try:
            connector.bind((os.getpid(), _CN_IDX_PROC))
            connector.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
            connector.send(_request(_LISTEN))
        except OSError:
            yield None
            return
        connector.setblocking(False)
        family = Family(connector)
        loop.add_reader(connector.fileno(), family.read)
        try:
            yield family
        finally:
            loop.remove_reader(connector.fileno())
            with contextlib.suppress(OSError):
                connector.send(_request(_IGNORE))


def _request(what: int) -> bytes:
    payload = struct.pack("=IIIIHHI", _CN_IDX_PROC, _CN_VAL_PROC, 0, 0, 4, 0, what)
    return struct.pack("=IHHII", 16 + len(payload), 3, 0, 0, os.getpid()) + payload


def _program(process: int) -> str:
    """The name of the file; of one that has ended meanwhile nothing is known."""
    try:
        return os.readlink(f"/proc/{process}/exe").rpartition("/")[2]
    except OSError:
        return "one that ended at once"
