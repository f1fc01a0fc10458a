"""One heap for all threads, in a process of its own: it cannot be undone."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no such heaps")

_ALLOCATE = """
import ctypes, sys, threading
from muster.cli import heap
if "share" in sys.argv:
    assert heap.share()
together = threading.Barrier(4)
def allocate():
    together.wait(250)
    kept = [bytes(2_000) for _ in range(1_000)]
    together.wait(250)
threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
ctypes.CDLL(None).malloc_stats()
"""

_LEAVE_HOLES = """
import asyncio
from muster.cli import heap
def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20
assert heap.share()
blocks = [bytes(2_000) for _ in range(50_000)]
kept = blocks[-1]
del blocks
before = resident_mib()
asyncio.run(heap.give_back())
print(before - resident_mib())
"""


def heaps(*arguments: str) -> int:
    run = subprocess.run(
        [sys.executable, "-c", _ALLOCATE, *arguments], capture_output=True, text=True, check=True, timeout=300
    )
    return run.stderr.count("Arena ")


def test_threads_share_one_heap() -> None:
    assert heaps() > 1, "else this proves nothing"
    assert heaps("share") == 1


def test_what_lies_free_between_blocks_in_use_is_given_back() -> None:
    run = subprocess.run([sys.executable, "-c", _LEAVE_HOLES], capture_output=True, text=True, check=True, timeout=300)
    assert float(run.stdout) > 50, "of 95 MiB"
