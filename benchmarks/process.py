"""What a process costs, as the kernel counts it. Source: proc(5)."""

import os
from pathlib import Path

import msgspec

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_UTIME, _STIME = 11, 12  # fields of /proc/PID/stat behind the command's name


class Memory(msgspec.Struct, frozen=True):
    """In MiB: resident; resident with shared pages divided among those who share them; the most ever resident."""

    rss: float
    pss: float
    peak: float


def cpu_s(pid: int) -> float:
    """The CPU seconds that the process has used, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS_PER_S


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
