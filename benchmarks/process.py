"""What a process costs, as the kernel counts it. Source: proc(5)."""

import contextlib
import os
from pathlib import Path

import msgspec

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat behind the command's name; the last two are of children that have ended.
_UTIME, _STIME, _CUTIME, _CSTIME = 11, 12, 13, 14


class Memory(msgspec.Struct, frozen=True):
    """In MiB: resident; resident with shared pages divided among those who share them; the most ever resident."""

    rss: float
    pss: float
    peak: float


def cpu_s(pid: int) -> float:
    """The CPU seconds that the process has used, all its threads together."""
    return _ticks(_stat(pid), _UTIME, _STIME) / _TICKS_PER_S


def threads_cpu_s(pid: int) -> float:
    """As `cpu_s`, of the threads that are there, to the nanosecond: for what takes less than a tick (10 ms)."""
    used = (path.read_text().split()[0] for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(map(int, used)) / 1e9


def family_threads_cpu_s(pid: int) -> float:
    """As `threads_cpu_s`, of a process and of its children, as far as they are there."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    used = threads_cpu_s(pid)
    for child in children:
        with contextlib.suppress(OSError):
            used += threads_cpu_s(int(child))
    return used


def family_cpu_s(pid: int) -> float:
    """The CPU seconds of a process and of its children, also of those that have ended: of PostgreSQL, for example."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ticks = _ticks(_stat(pid), _UTIME, _STIME, _CUTIME, _CSTIME)
    for child in children:
        with contextlib.suppress(OSError):  # one that has ended meanwhile
            ticks += _ticks(_stat(int(child)), _UTIME, _STIME, _CUTIME, _CSTIME)
    return ticks / _TICKS_PER_S


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _ticks(fields: list[str], *places: int) -> int:
    return sum(int(fields[place]) for place in places)


def memory(pid: int) -> Memory:
    """What the process holds now."""
    rolled = _fields(Path(f"/proc/{pid}/smaps_rollup").read_text())
    status = _fields(Path(f"/proc/{pid}/status").read_text())
    return Memory(rolled["Rss"], rolled["Pss"], status["VmHWM"])


def _fields(text: str) -> dict[str, float]:
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            found[name] = int(value.split()[0]) / 1024
    return found
