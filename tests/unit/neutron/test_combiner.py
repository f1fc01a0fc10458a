"""Batches among threads."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from muster.base.errors import Bug, Transient
from muster.neutron.combiner import Combiner

WAIT_S = 300.0


class Gate:
    """Serves batches of numbers, each only when it is let through; keeps what it saw."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.through = threading.Event()
        self.entered = threading.Semaphore(0)

    def run(self, items: list[int]) -> list[int | BaseException]:
        self.batches.append(items)
        self.entered.release()
        assert self.through.wait(WAIT_S)
        return [ValueError(item) if item < 0 else item * 2 for item in items]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_what_comes_meanwhile_is_the_next_batch() -> None:
    gate = Gate()
    combiner: Combiner[int, int] = Combiner(gate.run, 100)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(combiner.submit, 1)
        assert gate.entered.acquire(timeout=WAIT_S)
        others = [pool.submit(combiner.submit, item) for item in range(2, 10)]
        until(lambda: len(combiner._waiting) == 8)
        gate.through.set()
        assert first.result(WAIT_S) == 2
        assert [one.result(WAIT_S) for one in others] == [2 * item for item in range(2, 10)]
    assert [len(batch) for batch in gate.batches] == [1, 8]


def test_a_batch_has_a_limit_and_the_rest_is_served_too() -> None:
    gate = Gate()
    combiner: Combiner[int, int] = Combiner(gate.run, 3)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(combiner.submit, 0)
        assert gate.entered.acquire(timeout=WAIT_S)
        others = [pool.submit(combiner.submit, item) for item in range(1, 8)]
        until(lambda: len(combiner._waiting) == 7)
        gate.through.set()
        assert sorted(one.result(WAIT_S) for one in [first, *others]) == [2 * item for item in range(8)]
    assert [len(batch) for batch in gate.batches] == [1, 3, 3, 1]


def test_an_error_is_its_own_requests_or_the_whole_batchs() -> None:
    gate = Gate()
    gate.through.set()
    combiner: Combiner[int, int] = Combiner(gate.run, 3)
    with pytest.raises(ValueError, match="-1"):
        combiner.submit(-1)
    assert combiner.submit(1) == 2

    broken: Combiner[int, int] = Combiner(lambda items: [], 3)
    for _ in range(2):
        with pytest.raises(Bug):
            broken.submit(1)


def test_a_waiter_that_is_ended_leaves_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As eventlet ends a thread: an exception where it waits."""
    gate = Gate()
    combiner: Combiner[int, int] = Combiner(gate.run, 1)

    class Ended(BaseException):
        pass

    class Wakes(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            super().wait(WAIT_S)
            raise Ended

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(combiner.submit, 1)
        assert gate.entered.acquire(timeout=WAIT_S)
        monkeypatch.setattr("muster.neutron.combiner.Event", Wakes)
        ended = pool.submit(combiner.submit, 2)
        until(lambda: len(combiner._waiting) == 1)
        monkeypatch.undo()
        last = pool.submit(combiner.submit, 3)
        until(lambda: len(combiner._waiting) == 2)
        gate.through.set()
        assert first.result(WAIT_S) == 2
        with pytest.raises(Ended):
            ended.result(WAIT_S)
        assert last.result(WAIT_S) == 6


def test_who_waits_for_one_that_is_ended_may_try_again() -> None:
    entered, through = threading.Semaphore(0), threading.Event()

    def ended(_: list[int]) -> list[int]:
        entered.release()
        through.wait(WAIT_S)
        raise SystemExit

    combiner: Combiner[int, int] = Combiner(ended, 3)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(combiner.submit, 1)
        assert entered.acquire(timeout=WAIT_S)
        others = [pool.submit(combiner.submit, item) for item in (2, 3)]
        until(lambda: len(combiner._waiting) == 2)
        through.set()
        with pytest.raises(SystemExit):
            first.result(WAIT_S)
        outcomes = [one.exception(WAIT_S) for one in others]
    assert {type(one) for one in outcomes} == {SystemExit, Transient}


def test_many_threads_each_get_their_own() -> None:
    combiner: Combiner[int, int] = Combiner(lambda items: [item * 2 for item in items], 7)
    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(combiner.submit, range(2_000))) == [2 * item for item in range(2_000)]
