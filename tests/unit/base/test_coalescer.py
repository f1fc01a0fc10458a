"""Batches: what waits goes together, in order; one item's error is its own; whoever leaves disturbs nobody."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from muster.base.coalescer import Coalescer
from muster.base.errors import Bug, Invalid, Transient
from muster.base.virtual_time import run

BATCH_S = 1.0


class Recorder:
    """A coalescer whose batches take a second, and what it was handed."""

    def __init__(
        self, answer: Callable[[list[int]], Sequence[Any]] = lambda items: [n * 10 for n in items], **bounds: int
    ) -> None:
        self.batches: list[list[int]] = []
        self._answer = answer
        self.in_flight = 0
        self.coalescer: Coalescer[int, int] = Coalescer(self._run, name="test", **bounds)

    async def _run(self, items: list[int]) -> Sequence[Any]:
        self.batches.append(items)
        self.in_flight += 1
        assert self.in_flight == 1, "two batches at once"
        await asyncio.sleep(BATCH_S)
        self.in_flight -= 1
        return self._answer(items)

    def submit(self, *items: int) -> "asyncio.Future[list[Any]]":
        return asyncio.gather(*(self.coalescer.submit(item) for item in items), return_exceptions=True)


def _run(scenario: Callable[[], Awaitable[None]]) -> None:
    run(scenario())  # type: ignore[arg-type]


def test_what_comes_together_is_one_batch_and_what_comes_meanwhile_the_next() -> None:
    async def scenario() -> None:
        recorder = Recorder()
        first = recorder.submit(1, 2, 3)
        await asyncio.sleep(BATCH_S / 2)
        second = recorder.submit(4, 5)
        assert await first == [10, 20, 30]
        assert await second == [40, 50]
        assert recorder.batches == [[1, 2, 3], [4, 5]]
        assert await recorder.submit(6) == [60]  # and it starts again after a pause

    _run(scenario)


def test_a_burst_that_comes_turn_by_turn_is_one_batch() -> None:
    """As requests come that the loop reads from their sockets some at a time."""

    async def scenario() -> None:
        recorder = Recorder()
        results = []
        for item in range(10):
            results.append(recorder.submit(item))
            await asyncio.sleep(0)
        assert [await result for result in results] == [[10 * item] for item in range(10)]
        assert recorder.batches == [[*range(10)]]

    _run(scenario)


def test_who_comes_turn_by_turn_for_ever_does_not_hold_up_the_first_batch() -> None:
    async def scenario() -> None:
        recorder = Recorder()
        results = [recorder.submit(0)]
        while not recorder.batches:
            await asyncio.sleep(0)
            results.append(recorder.submit(len(results)))
            assert len(results) < 1_000
        await asyncio.gather(*results)

    _run(scenario)


def test_a_batch_is_bounded_and_order_is_kept() -> None:
    async def scenario() -> None:
        recorder = Recorder(max_batch=4)
        assert await recorder.submit(*range(10)) == [n * 10 for n in range(10)]
        assert recorder.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]

    _run(scenario)


def test_an_items_error_is_its_own() -> None:
    async def scenario() -> None:
        recorder = Recorder(lambda items: [Invalid("odd") if n % 2 else n for n in items])
        outcomes = await recorder.submit(0, 1, 2, 3)
        assert [type(outcome) for outcome in outcomes] == [int, Invalid, int, Invalid]

    _run(scenario)


def test_the_batchs_error_is_everybodys_and_the_next_batch_goes_on() -> None:
    failing = [True]

    def answer(items: list[int]) -> list[int]:
        if failing.pop() if failing else False:
            raise Transient("away")
        return items

    async def scenario() -> None:
        recorder = Recorder(answer)
        first = recorder.submit(1, 2)
        await asyncio.sleep(BATCH_S / 2)
        second = recorder.submit(3)
        assert [type(outcome) for outcome in await first] == [Transient, Transient]
        assert await second == [3]

    _run(scenario)


def test_a_batch_that_answers_too_few_is_a_bug_for_all() -> None:
    async def scenario() -> None:
        outcomes = await Recorder(lambda items: items[1:]).submit(1, 2)
        assert [type(outcome) for outcome in outcomes] == [Bug, Bug]

    _run(scenario)


def test_who_is_cancelled_while_waiting_is_not_served() -> None:
    async def scenario() -> None:
        recorder = Recorder()
        first = recorder.submit(1)
        await asyncio.sleep(BATCH_S / 2)
        leaving = asyncio.create_task(recorder.coalescer.submit(2))
        staying = recorder.submit(3)
        await asyncio.sleep(0)
        leaving.cancel()
        assert await first == [10]
        assert await staying == [30]
        assert recorder.batches == [[1], [3]]
        with pytest.raises(asyncio.CancelledError):
            await leaving

    _run(scenario)


def test_who_is_cancelled_in_flight_leaves_the_batch_going_on() -> None:
    async def scenario() -> None:
        recorder = Recorder()
        leaving = asyncio.create_task(recorder.coalescer.submit(1))
        staying = recorder.submit(2)
        await asyncio.sleep(BATCH_S / 2)
        leaving.cancel()
        assert await staying == [20]
        assert recorder.batches == [[1, 2]]

    _run(scenario)


def test_the_queue_is_bounded_and_says_when_to_come_again() -> None:
    async def scenario() -> None:
        recorder = Recorder(max_waiting=2)
        first = recorder.submit(1)
        await asyncio.sleep(BATCH_S / 2)
        waiting = recorder.submit(2, 3)
        await asyncio.sleep(0)
        [refused] = await recorder.submit(4)
        assert isinstance(refused, Transient)
        assert refused.retry_after_s > 0
        assert await first == [10]
        assert await waiting == [20, 30]

    _run(scenario)


def test_those_who_left_take_no_place_in_the_queue() -> None:
    async def scenario() -> None:
        recorder = Recorder(max_waiting=2)
        first = recorder.submit(1)
        await asyncio.sleep(BATCH_S / 2)
        leaving = [asyncio.create_task(recorder.coalescer.submit(n)) for n in (2, 3)]
        await asyncio.sleep(0)
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        assert await recorder.submit(4) == [40]
        assert await first == [10]

    _run(scenario)


def test_an_end_of_the_process_reaches_those_in_flight_and_those_who_wait() -> None:
    async def scenario() -> None:
        recorder = Recorder()
        first = recorder.submit(1)
        await asyncio.sleep(BATCH_S / 2)
        second = recorder.submit(2)
        await asyncio.sleep(0)
        [worker] = [task for task in asyncio.all_tasks() if task.get_name() == "coalescer test"]
        worker.cancel()
        assert [type(outcome) for outcome in await first] == [Transient]
        assert [type(outcome) for outcome in await second] == [Transient]

    _run(scenario)
