"""CPU and disk use from the kernel's counters."""

import asyncio
import contextlib
from pathlib import Path

from muster.bench.records import Sample
from muster.bench.sampler import Counters, between, parse, sample_into

STAT = "cpu  100 10 50 800 40 0 5 5 20 0\ncpu0 1 2 3\nintr 5\n"
DISKSTATS = """\
   7       0 loop0 0 0 0 0 0 0 0 0 0 999 0 0 0 0 0 0 0
 254       0 vda 228861 86221 21512690 88112 21788 46246 7022280 18106 0 24004 107136 9233 26 5134624 843 2314 73
 254       1 vda1 1 1 1 1 1 1 1 1 0 777 1
 259       0 nvme0n1 1 1 1 1 1 1 1 1 0 55 1
"""


def test_counters_are_read() -> None:
    counters = parse(STAT, DISKSTATS, 7.0)
    assert counters == Counters(7.0, 1010, 170, {"vda": 24004, "nvme0n1": 55})


def test_use_is_what_happened_in_between() -> None:
    before = Counters(1.0, 1000, 100, {"vda": 500, "vdb": 0})
    after = Counters(1.5, 1100, 125, {"vda": 750, "vdb": 100, "new": 10**6})
    assert between(before, after) == Sample(1.5, 25.0, 50.0)


def test_use_is_a_percentage_whatever_the_counters_say() -> None:
    before = Counters(1.0, 1000, 100, {"vda": 500})
    assert between(before, Counters(1.1, 1010, 300, {"vda": 9999})) == Sample(1.1, 100.0, 100.0)
    assert between(before, Counters(1.0, 1000, 100, {})) == Sample(1.0, 0.0, 0.0)


async def test_samples_are_added_until_cancelled(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text(STAT)
    (tmp_path / "diskstats").write_text(DISKSTATS)
    samples: list[Sample] = []
    task = asyncio.create_task(sample_into(samples, lambda: 0.0, tmp_path))
    while len(samples) < 2:
        await asyncio.sleep(0.05)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_without_proc_there_are_no_samples(tmp_path: Path) -> None:
    samples: list[Sample] = []
    await sample_into(samples, lambda: 0.0, tmp_path)
    assert samples == []
