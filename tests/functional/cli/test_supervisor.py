"""The supervisor over small workers: who dies is replaced, who does not start replaces nobody, all end in time."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from muster.base.errors import Invalid
from muster.cli import supervisor as module
from muster.cli.supervisor import MISCONFIGURED, Supervisor

HANG_S = 300.0
# How long a worker may be silent, in turns of the supervisor's loop: more than a busy machine makes it wait.
HANGING_S = 4.0
# Says that it is ready, and ends when its parent does. How it begins is read from a file, as settings are.
WORKER = """
import os, select, signal, sys, time
beat_s = None
exec(open(sys.argv[1]).read())
with open(sys.argv[2], "a") as log:
    log.write(f"{os.getpid()}\\n")
print("ready", flush=True)
while not select.select([sys.stdin], [], [], beat_s)[0]:
    print("alive", flush=True)
"""


class World:
    """A supervisor of two workers, whose beginning is the Python text in `beginning`."""

    def __init__(self, folder: Path) -> None:
        self.beginning = folder / "beginning"
        self.beginning.write_text("")
        self._log = folder / "log"
        self._log.write_text("")
        self.ready = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        command = [sys.executable, "-c", WORKER, str(self.beginning), str(self._log)]
        self.supervisor = Supervisor(lambda _: command, 2, self.listener, drain_s=0.0, hang_s=HANGING_S)

    def now_ready(self) -> None:
        self.ready += 1

    def started(self) -> list[int]:
        """The pids of all workers that came to be ready."""
        return [int(line) for line in self._log.read_text().split()]

    def running(self) -> set[int]:
        return {pid for pid in self.started() if _runs(pid)}

    async def until(self, count: int) -> list[int]:
        """Wait until so many workers have come to be ready."""
        async with asyncio.timeout(HANG_S):
            while len(self.started()) < count:
                await asyncio.sleep(0.02)
        return self.started()

    async def until_ready(self) -> None:
        """Wait until it is said that all workers answer: that comes a moment after they are `started`."""
        async with asyncio.timeout(HANG_S):
            while not self.ready:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def running(world: World) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(world.supervisor.run(world.now_ready))
    try:
        yield task
    finally:
        world.supervisor.end()
        await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), HANG_S)
        world.listener.close()
        assert world.running() == set()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(module, "_LONGEST_PAUSE_S", 0.2)
    monkeypatch.setattr(module, "_END_GRACE_S", 5.0)
    monkeypatch.setattr(module, "BEAT_S", 0.05)
    return World(tmp_path)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def test_a_worker_that_dies_is_started_again(world: World) -> None:
    async with running(world):
        first, second = await world.until(2)
        await world.until_ready()
        os.kill(first, signal.SIGKILL)
        third = (await world.until(3))[2]
        assert world.running() == {second, third}
        assert world.ready == 1, "it is said once"


async def test_that_all_answer_is_said_also_of_those_who_do_before_they_have_their_place(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine a worker may be quicker than whoever started it: then nobody ever said that all were ready."""
    start = Supervisor._start

    async def started_late(supervisor: Supervisor, index: int) -> object:
        worker = await start(supervisor, index)
        await worker.ready.wait()
        return worker

    monkeypatch.setattr(Supervisor, "_start", started_late)
    async with running(world):
        await world.until_ready()


async def test_a_worker_that_writes_no_more_is_ended_as_well(world: World) -> None:
    world.beginning.write_text(
        "os.close(1); open(sys.argv[2], 'a').write(f'{os.getpid()}\\n'); time.sleep(60); sys.exit()"
    )
    async with running(world):
        await world.until(2)
        await asyncio.sleep(0.2)  # the supervisor has seen that it will hear nothing


async def test_a_worker_that_stands_still_is_killed_and_started_again(world: World) -> None:
    world.beginning.write_text("beat_s = 0.02")
    async with running(world):
        first, second = await world.until(2)
        await world.until_ready()
        await asyncio.sleep(HANGING_S + 0.5)  # longer than a worker that beats may be silent
        assert world.running() == {first, second}
        os.kill(first, signal.SIGSTOP)
        third = (await world.until(3))[2]
        assert world.running() == {second, third}


async def test_a_supervisor_that_stood_still_blames_no_worker(world: World) -> None:
    world.beginning.write_text("beat_s = 0.02")
    async with running(world):
        workers = await world.until(2)
        await world.until_ready()
        await asyncio.sleep(0.5)
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(0.3)  # hear what they had said
        time.sleep(HANGING_S + 0.5)  # the whole machine stands still, as far as they can tell
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(1.0)
        assert world.running() == set(workers)


async def test_workers_are_replaced_one_after_the_other(world: World) -> None:
    async with running(world):
        old = await world.until(2)
        world.beginning.write_text("signal.signal(signal.SIGTERM, signal.SIG_DFL)")
        world.supervisor.replace()
        new = (await world.until(4))[2:]
        async with asyncio.timeout(HANG_S):
            while world.running() != set(new):
                assert len(world.running()) >= 2, "never fewer than there should be"
                await asyncio.sleep(0.02)
        assert not set(old) & set(new)


async def test_a_new_worker_that_does_not_start_replaces_nobody(world: World) -> None:
    async with running(world):
        old = set(await world.until(2))
        world.beginning.write_text("raise SystemExit(1)")
        world.supervisor.replace()
        await asyncio.sleep(1.0)
        assert world.running() == old
        world.beginning.write_text("")
        world.supervisor.replace()
        await world.until(4)


async def test_settings_that_became_wrong_end_nobody_who_serves(world: World) -> None:
    async with running(world) as task:
        first, second = await world.until(2)
        await world.until_ready()
        world.beginning.write_text(f"raise SystemExit({MISCONFIGURED})")
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(HANG_S):
            while first in world.running():
                await asyncio.sleep(0.02)
        await asyncio.sleep(1.0)
        assert world.running() == {second}
        assert not task.done()
        world.beginning.write_text("")
        await world.until(3)


async def test_settings_that_are_wrong_at_the_start_are_told(world: World) -> None:
    world.beginning.write_text(f"raise SystemExit({MISCONFIGURED})")
    async with running(world) as task:
        with pytest.raises(Invalid):
            await asyncio.wait_for(asyncio.shield(task), HANG_S)
    assert world.ready == 0


async def test_the_socket_closes_before_the_workers_end(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.supervisor, "_end_within_s", HANG_S)
    told, may_end = tmp_path / "told", tmp_path / "may end"
    world.beginning.write_text(
        "def end(*_):\n"
        f"    open({str(told)!r}, 'a').write('x')\n"
        f"    while not os.path.exists({str(may_end)!r}): time.sleep(0.02)\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
    )
    async with running(world) as task:
        await world.until(2)
        world.supervisor.end()
        async with asyncio.timeout(HANG_S):
            while not told.exists() or len(told.read_text()) < 2:
                await asyncio.sleep(0.02)
        assert world.listener.fileno() == -1
        assert len(world.running()) == 2
        may_end.touch()
        await asyncio.wait_for(task, HANG_S)


async def test_a_worker_that_does_not_end_is_made_to(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.supervisor, "_end_within_s", 0.3)
    world.beginning.write_text("signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    async with running(world) as task:
        await world.until(2)
        world.supervisor.end()
        await asyncio.wait_for(task, HANG_S)
        assert world.running() == set()


async def test_a_worker_whose_supervisor_is_gone_hears_of_it(world: World) -> None:
    async with running(world):
        [first, _] = await world.until(2)
        worker = next(one for one in world.supervisor._workers if one.process.pid == first)
        assert worker.process.stdin is not None
        worker.process.stdin.close()
        await world.until(3)
        assert first not in world.running()


async def test_who_replaces_workers_twice_at_once_has_only_one_more_at_a_time(world: World) -> None:
    async with running(world):
        first = await world.until(2)
        world.supervisor.replace()
        world.supervisor.replace()
        async with asyncio.timeout(HANG_S):
            while set(first) & world.running() or len(world.started()) < 6:
                assert len(world.supervisor._workers) <= 3
                await asyncio.sleep(0.005)
