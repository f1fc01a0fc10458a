"""Network namespaces without a name: one for each thing that is measured, gone with its last process."""

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from muster.base.errors import Unsupported
from muster.host.namespace import enter

_CLONE_NEWNET = 0x40000000
_OWN = Path("/proc/thread-self/ns/net")
_COMMAND_S = 30.0


class Space:
    """A network namespace, kept by an open file."""

    def __init__(self, file: int) -> None:
        self._file = file

    @property
    def inode(self) -> int:
        """What /proc/PID/ns/net shows of a process in it."""
        return os.fstat(self._file).st_ino

    def enter(self) -> None:
        """This thread works in it from now on, and so does what it starts."""
        enter(Path(f"/proc/self/fd/{self._file}"))

    def processes(self, program: str) -> list[int]:
        """The processes in it that run this program (the name of the file). A look at each process of the machine."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):  # one that has ended meanwhile, or a kernel thread
                if entry.name.isdecimal() and (entry / "ns/net").stat().st_ino == self.inode and _runs(entry, program):
                    found.append(int(entry.name))
        return found


@contextlib.contextmanager
def spaces(count: int) -> Iterator[list[Space]]:
    """So many new ones, for the calling thread; in the end it is back where it was. Raises Unsupported."""
    with contextlib.ExitStack() as stack:
        home = _opened(stack)
        stack.callback(home.enter)
        yield [_new(stack) for _ in range(count)]


def _runs(entry: Path, program: str) -> bool:
    return os.readlink(entry / "exe").rpartition("/")[2].startswith(program)


def _new(stack: contextlib.ExitStack) -> Space:
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        why = os.strerror(ctypes.get_errno())
        raise Unsupported(
            f"no network namespace can be made ({why}); run this as root, in a container with --privileged"
        )
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=_COMMAND_S)
    return _opened(stack)


def _opened(stack: contextlib.ExitStack) -> Space:
    file = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, file)
    return Space(file)
