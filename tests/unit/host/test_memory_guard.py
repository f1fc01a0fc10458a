"""Boots are held back while memory is short: with made-up readings, under virtual time."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from muster.base import virtual_time
from muster.host.agenda import Agenda
from muster.host.boot import BootQueue
from muster.host.boot_settings import BootSettings
from muster.host.memory import Memory
from muster.host.memory_guard import Guarding, GuardSettings, MemoryGuard, floor_mib, shortage

SETTINGS = GuardSettings(floor_mib=100, overhead_mib=50, settle_s=10.0, check_s=1.0)
NEEDS_MIB = 200


class Host:
    """A queue with a guard over a made-up host. `free_mib` is what the kernel would say; who starts is in `started`."""

    def __init__(self, free_mib: int, limit: int = 100) -> None:
        self.free_mib = free_mib
        self.stalled = 0.0
        self.reads = 0
        self.started: list[str] = []
        agenda = Agenda()
        self.guard = MemoryGuard(
            Guarding(read=self._read, host="test", settings=SETTINGS),
            agenda,
            needs_mib=lambda _: NEEDS_MIB,
            waiting=lambda: self.boots.waiting,
            wake=self.pump,
        )
        settings = BootSettings(limit=limit, limit_max=limit, boot_limit_s=1000.0)
        self.boots = BootQueue(settings, agenda, pressure=lambda: None, wake=self.pump, gate=self.guard)

    def _read(self) -> Memory:
        self.reads += 1
        return Memory(total_mib=10_000, available_mib=self.free_mib, stalled=self.stalled)

    def pump(self) -> None:
        for server_id in self.boots.take(lambda _: True):
            self.started.append(server_id)
            self.boots.started(server_id, [])

    def offer(self, count: int) -> None:
        for number in range(count):
            self.boots.offer(f"s{number}")
        self.pump()


def story(play: Callable[[], Awaitable[None]]) -> None:
    virtual_time.run(play())


def test_what_is_free_is_not_promised_twice() -> None:
    """1,000 MiB, of which 100 are the host's: three guests of 250, however many ask at once."""

    async def play() -> None:
        host = Host(free_mib=1000)
        host.offer(10)
        assert host.started == ["s0", "s1", "s2"]
        assert host.guard.holds
        assert (host.boots.waiting, host.boots.booting) == (7, 3)
        assert host.reads == 1, "a look is good for all that ask at once"

    story(play)


def test_guests_that_touch_all_their_memory_never_take_the_last() -> None:
    """Each takes all it was promised within its boot; then it is settled, and nobody else ever fits."""

    async def play() -> None:
        host = Host(free_mib=1000)
        host.offer(10)
        for _ in range(60):
            await asyncio.sleep(1.0)
            taken = NEEDS_MIB + SETTINGS.overhead_mib
            host.free_mib = 1000 - taken * len(host.started)
            for server_id in list(host.started):
                host.boots.end(server_id)
        assert host.started == ["s0", "s1", "s2"]
        assert host.boots.waiting == 7

    story(play)


def test_guests_that_touch_little_let_the_next_ones_in_once_they_are_settled() -> None:
    async def play() -> None:
        host = Host(free_mib=1000)
        host.offer(5)
        host.free_mib = 900
        for server_id in list(host.started):
            host.boots.end(server_id)
        await asyncio.sleep(SETTINGS.settle_s - 1)
        assert len(host.started) == 3
        await asyncio.sleep(2)
        assert host.started == [f"s{number}" for number in range(5)]
        assert not host.guard.holds

    story(play)


def test_boots_go_on_when_memory_is_back_in_the_order_of_asking() -> None:
    async def play() -> None:
        host = Host(free_mib=120)
        with capture_logs() as logs:
            host.offer(2)
            await asyncio.sleep(20.0)
            assert logs == [], "a short wait is not worth a warning"
            await asyncio.sleep(70.0)
            assert host.started == []
            host.free_mib = 5000
            await asyncio.sleep(2.0)
        assert host.started == ["s0", "s1"]
        assert [line["action"] for line in logs] == ["boots.held", "boots.released"], "said once, not every second"
        assert logs[0]["waiting"] == 2
        assert "120 MiB" in logs[0]["why"]
        assert logs[1]["held_s"] == pytest.approx(90.0, abs=2.0)

    story(play)


def test_nobody_is_admitted_while_tasks_wait_for_memory() -> None:
    async def play() -> None:
        host = Host(free_mib=9000)
        host.stalled = 0.5
        host.offer(1)
        assert host.started == []
        host.stalled = 0.05
        await asyncio.sleep(2.0)
        assert host.started == ["s0"]

    story(play)


def test_who_leaves_the_queue_ends_the_holding_and_no_timer_is_left() -> None:
    async def play() -> None:
        host = Host(free_mib=120)
        host.offer(1)
        assert host.guard.holds
        host.boots.leave("s0")
        await asyncio.sleep(3.0)
        assert not host.guard.holds
        reads = host.reads
        await asyncio.sleep(100.0)
        assert host.reads == reads

    story(play)


def test_a_refusal_leaves_the_slot_free() -> None:
    async def play() -> None:
        host = Host(free_mib=400, limit=1)
        host.offer(3)
        assert host.started == ["s0"]
        host.boots.end("s0")
        assert host.started == ["s0"]
        host.free_mib = 9000
        await asyncio.sleep(20.0)
        assert host.started == ["s0", "s1"], "one slot, and it was not lost to the refusals"

    story(play)


def test_a_server_that_starts_again_is_promised_its_memory_anew() -> None:
    async def play() -> None:
        host = Host(free_mib=600)
        host.offer(1)
        host.boots.end("s0")
        await asyncio.sleep(5.0)
        host.offer(1)
        await asyncio.sleep(7.0)  # the first start's time is over, the second's is not
        host.boots.offer("other")
        host.boots.offer("another")
        host.pump()
        assert host.started == ["s0", "s0", "other"]

    story(play)


@pytest.mark.parametrize(
    ("available", "stalled", "promised", "why"),
    [
        (400, 0.0, 100, None),
        (399, 0.0, 100, "399 MiB are available and 100 MiB of them promised"),
        (9000, 0.2, 0, "20%"),
        (0, 0.0, 0, "200 MiB"),
    ],
)
def test_shortage(available: int, stalled: float, promised: int, why: str | None) -> None:
    memory = Memory(total_mib=10_000, available_mib=available, stalled=stalled)
    said = shortage(SETTINGS, memory, promised_mib=promised, needs_mib=200)
    assert (said is None) == (why is None)
    assert why is None or why in str(said)


@pytest.mark.parametrize(("total", "floor"), [(1_000, 128), (10_000, 500), (1_000_000, 2_048)])
def test_the_host_keeps_a_twentieth_for_itself(total: int, floor: int) -> None:
    assert floor_mib(GuardSettings(), total) == floor


def test_a_kernel_that_does_not_tell_holds_nobody() -> None:
    async def play() -> None:
        guard = MemoryGuard(
            Guarding(read=lambda: None, host="test", settings=SETTINGS),
            Agenda(),
            needs_mib=lambda _: NEEDS_MIB,
            waiting=lambda: 1,
            wake=lambda: None,
        )
        assert guard.admits("s0")

    story(play)
