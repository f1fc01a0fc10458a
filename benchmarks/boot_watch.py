"""What a round costs its machine: memory at its worst, processors' time by who used it."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.process import cpu_s
from muster.base.units import KIB

_EVERY_S = 0.25
_IDLE, _IOWAIT = 3, 4  # fields of /proc/stat


class Peak:
    """MiB that are in use beyond what was at the beginning, at the worst moment."""

    def __init__(self) -> None:
        self._before_mib = self._least_mib = _available_mib()

    @property
    def used_mib(self) -> float:
        """At the worst moment so far."""
        return self._before_mib - self._least_mib

    def look(self) -> None:
        """Is it worse now?"""
        self._least_mib = min(self._least_mib, _available_mib())


@asynccontextmanager
async def memory_watched() -> AsyncIterator[Peak]:
    """The peak during the block."""
    peak = Peak()

    async def look() -> None:
        while True:
            peak.look()
            await asyncio.sleep(_EVERY_S)

    looking = asyncio.create_task(look())
    try:
        yield peak
    finally:
        looking.cancel()


def machine_used_s() -> float:
    """CPU seconds that all processors together have been busy since the machine's start."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(ticks) - ticks[_IDLE] - ticks[_IOWAIT]) / os.sysconf("SC_CLK_TCK")


def used_by(processes: Sequence[int]) -> float:
    """The CPU seconds of these processes so far; of one that has ended, none."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(OSError):
            total += cpu_s(process)
    return total


def _available_mib() -> float:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / KIB
    return 0.0
