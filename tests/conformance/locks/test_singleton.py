"""Work for the whole cluster: done by one process, taken over when it dies or stands still, stopped when it is lost."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from muster.base.errors import Transient
from muster.locks.protocol import Grant
from muster.services.singleton import Singleton
from tests.commands import HANG_S, started
from tests.conformance.locks.conftest import LEASE_S, Backend

# Renewed in time on a busy machine too.
OWNER_LEASE_S = 4 * LEASE_S
# From the owner's death to the next one's first work: a lease, and what a busy machine takes.
TAKEN_OVER_S = OWNER_LEASE_S + HANG_S


class Members:
    """Processes that may work, and what they did."""

    def __init__(self, log: Path, processes: Sequence[asyncio.subprocess.Process]) -> None:
        self._log = log
        self.processes = {process.pid: process for process in processes}

    def done(self) -> list[tuple[int, float]]:
        """Who worked, and when, in the order of being written."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [(int(pid), float(at)) for pid, at in (line.split() for line in lines)]

    async def next_owner(self, *others_than: int) -> int:
        """Who works from now on, once somebody does who is none of these."""
        seen = len(self.done())
        async with asyncio.timeout(TAKEN_OVER_S):
            while True:
                for pid, _ in self.done()[seen:]:
                    if pid not in others_than:
                        return pid
                await asyncio.sleep(0.05)

    async def stops(self, pid: int) -> None:
        """Wait until a process that goes on has heard that it is not the owner any more, and works no more."""
        async with asyncio.timeout(HANG_S):
            turns = -1
            while turns != (turns := [worker for worker, _ in self.done()].count(pid)):
                await asyncio.sleep(2.0)


@asynccontextmanager
async def members(backend: Backend, name: str, folder: Path, count: int = 3) -> AsyncIterator[Members]:
    log, url = folder / "log", backend.url_for(OWNER_LEASE_S)
    command = (sys.executable, "-m", "tests.conformance.locks.singleton_member", url, str(backend.tokens))
    async with AsyncExitStack() as stack:
        words, options = (
            (*command, name, str(log)),
            {"stdout": asyncio.subprocess.PIPE, "cwd": Path(__file__).parents[3]},
        )
        processes = [await stack.enter_async_context(started(*words, **options)) for _ in range(count)]
        for process in processes:
            assert process.stdout is not None
            assert await asyncio.wait_for(process.stdout.readline(), HANG_S)
        yield Members(log, processes)


@pytest.mark.parametrize("backend", ["tooz-file", "etcd"], indirect=True)
async def test_another_takes_over_when_the_owner_dies(backend: Backend, name: str, tmp_path: Path) -> None:
    async with members(backend, name, tmp_path) as them:
        owners: list[int] = []
        while len(owners) < len(them.processes):
            owner = await them.next_owner(*owners)
            owners.append(owner)
            await asyncio.sleep(0.3)
            them.processes[owner].kill()
            await them.processes[owner].wait()
        turns = [pid for pid, _ in them.done()]
        assert [pid for index, pid in enumerate(turns) if index == 0 or turns[index - 1] != pid] == owners


@pytest.mark.parametrize("backend", ["etcd"], indirect=True)
async def test_another_takes_over_when_the_owner_stands_still(backend: Backend, name: str, tmp_path: Path) -> None:
    async with members(backend, name, tmp_path, count=2) as them:
        first = await them.next_owner()
        os.kill(first, signal.SIGSTOP)
        second = await them.next_owner(first)
        os.kill(first, signal.SIGCONT)
        await them.stops(first)
        assert await them.next_owner(first) == second
        them.processes[second].kill()
        assert await them.next_owner(second) == first


@pytest.mark.parametrize("backend", ["tooz-file"], indirect=True)
async def test_an_owner_of_a_file_lock_that_stands_still_goes_on(backend: Backend, name: str, tmp_path: Path) -> None:
    async with members(backend, name, tmp_path, count=2) as them:
        first = await them.next_owner()
        os.kill(first, signal.SIGSTOP)
        await asyncio.sleep(3.0)
        os.kill(first, signal.SIGCONT)
        assert await them.next_owner() == first
        assert {pid for pid, _ in them.done()} == {first}


class LosingLocks:
    """Locks that can be taken away; away altogether for the first `away` times."""

    def __init__(self, away: int = 0) -> None:
        self.grants: list[Grant] = []
        self._away = away

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[Grant]:
        if self._away:
            self._away -= 1
            raise Transient("away", retry_after_s=0.01)
        self.grants.append(Grant(name, len(self.grants)))
        yield self.grants[-1]


async def test_work_stops_when_the_lock_is_lost_and_begins_anew() -> None:
    locks = LosingLocks(away=2)
    begun, stopped = 0, asyncio.Event()

    async def work() -> None:
        nonlocal begun
        begun += 1
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async def failing() -> None:
        raise RuntimeError("a bug")

    running = asyncio.create_task(Singleton(locks, "x", {"work": work, "failing": failing}).run())  # type: ignore[arg-type]
    async with asyncio.timeout(HANG_S):
        while not begun:
            await asyncio.sleep(0.01)
        assert not stopped.is_set()
        locks.grants[0].lost.set()
        await stopped.wait()
        while begun < 2:
            await asyncio.sleep(0.01)
    assert locks.grants[0].name == "singleton/x"
    stopped.clear()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert stopped.is_set()
