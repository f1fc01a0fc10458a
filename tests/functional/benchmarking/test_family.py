"""Processes are counted by the kernel, with who started them, however short they live."""

import asyncio
from pathlib import Path

import pytest

from benchmarks.family import Family, Started, watched_family


async def ended(family: Family, *command: str) -> int:
    process = await asyncio.create_subprocess_exec(*command)
    assert await asyncio.wait_for(process.wait(), 300) == 0
    return process.pid


async def test_every_program_is_counted_with_its_starter() -> None:
    with watched_family() as family:
        if family is None:
            pytest.skip("the kernel's process connector is for root in the machine's first namespaces")
        one = await ended(family, "/bin/sh", "-c", "sleep 5 & true; /bin/true; (exit 0); wait")
        other = await ended(family, "/bin/sh", "-c", ":")
        found, nothing = family.started(one), family.started(other)
    assert not family.lost
    # One that ended before its name could be read is counted all the same.
    shell = Path("/bin/sh").resolve().name
    assert sum(found.programs.values()) == 3
    assert found.programs[f"{shell}: sleep"] == 1
    assert found.forks == 3
    assert (sum(nothing.programs.values()), nothing.forks) == (1, 0)
    more = found.since(nothing)
    assert more.forks == 3
    assert found.since(found) == Started()
