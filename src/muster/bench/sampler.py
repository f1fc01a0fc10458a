"""CPU and disk use of the machine that the benchmark runs on, on the run's time axis.

Source: proc(5), /proc/stat; the kernel's Documentation/admin-guide/iostats.rst, /proc/diskstats.
"""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import msgspec

from muster.bench.records import Sample

INTERVAL_S = 0.2
# Whole disks; partitions, loop devices, RAM disks and device-mapper volumes would count the same work twice.
_DISK = re.compile(r"(sd[a-z]+|vd[a-z]+|xvd[a-z]+|hd[a-z]+|nvme\d+n\d+|mmcblk\d+)")
_IDLE, _IOWAIT, _COUNTED = 3, 4, 8  # fields of /proc/stat's cpu line; guest time is in user time already


class Counters(msgspec.Struct, frozen=True):
    """The kernel's counters at one moment: CPU ticks in all and busy ones, busy milliseconds per disk."""

    at_s: float
    cpu_ticks: int
    cpu_busy_ticks: int
    disk_busy_ms: dict[str, int]


def parse(stat: str, diskstats: str, at_s: float) -> Counters:
    """The counters from the two files' text."""
    ticks = [int(field) for field in stat.split("\n", 1)[0].split()[1 : 1 + _COUNTED]]
    disks = {}
    for line in diskstats.splitlines():
        fields = line.split()
        if len(fields) > 12 and _DISK.fullmatch(fields[2]):
            disks[fields[2]] = int(fields[12])
    return Counters(at_s, sum(ticks), sum(ticks) - ticks[_IDLE] - ticks[_IOWAIT], disks)


def between(before: Counters, after: Counters) -> Sample:
    """The use between two readings, each 0 to 100; of several disks the busiest."""
    ticks = after.cpu_ticks - before.cpu_ticks
    cpu = 100.0 * (after.cpu_busy_ticks - before.cpu_busy_ticks) / ticks if ticks > 0 else 0.0
    elapsed_ms = max((after.at_s - before.at_s) * 1000.0, 1.0)
    disk = max(
        (
            100.0 * (busy - before.disk_busy_ms.get(name, busy)) / elapsed_ms
            for name, busy in after.disk_busy_ms.items()
        ),
        default=0.0,
    )
    return Sample(after.at_s, _percent(cpu), _percent(disk))


def _percent(value: float) -> float:
    return round(min(max(value, 0.0), 100.0), 1)


async def sample_into(samples: list[Sample], now: Callable[[], float], proc: Path = Path("/proc")) -> None:
    """Add a sample every 0.2 s until cancelled. Cost: two small files read each time. Without /proc: none."""
    before: Counters | None = None
    while True:
        try:
            after = parse((proc / "stat").read_text(), (proc / "diskstats").read_text(), now())
        except (OSError, ValueError, IndexError):
            return
        if before is not None:
            samples.append(between(before, after))
        before = after
        await asyncio.sleep(INTERVAL_S)
