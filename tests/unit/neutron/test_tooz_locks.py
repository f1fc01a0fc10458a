"""Locks of Tooz: when a connection is made anew."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from tests.commands import HANG_S

from muster.base.errors import Transient
from muster.neutron import locks
from muster.neutron.locks import ToozLocks


class Coordinator:
    """A connection to a backend that may break: then nothing of it works any more."""

    def __init__(self) -> None:
        self.broken = False
        self.asked = Event()
        self.answers: Event | None = None  # who asks waits for it

    def start(self, start_heart: bool) -> None:
        pass

    def stop(self) -> None:
        pass

    def get_lock(self, name: bytes) -> "Coordinator":
        return self

    def acquire(self, blocking: float) -> bool:
        answers = self.answers
        self.asked.set()
        assert answers is None or answers.wait(HANG_S)
        self._work()
        return True

    def release(self) -> None:
        self._work()

    def _work(self) -> None:
        if self.broken:
            raise ConnectionError


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Coordinator]:
    """The connections that are made."""
    made: list[Coordinator] = []

    def connect(*_: Any) -> Coordinator:
        made.append(Coordinator())
        return made[-1]

    monkeypatch.setattr(locks.coordination, "get_coordinator", connect)
    monkeypatch.setattr(locks, "_ANSWER_S", HANG_S)
    return made


def test_what_is_left_of_a_broken_connection_does_not_end_the_next(made: list[Coordinator]) -> None:
    backend = ToozLocks("any://", 30.0)
    with backend.hold("a"):
        made[0].broken = True
        with pytest.raises(Transient), backend.hold("b"):
            pass
        with backend.hold("b"):
            pass
    with backend.hold("a"):  # the release of the first one failed
        pass
    assert len(made) == 2


def take(backend: ToozLocks, name: str) -> None:
    with backend.hold(name):
        pass


def test_who_asked_on_a_broken_connection_does_not_end_the_next(made: list[Coordinator]) -> None:
    """Each of those who had been waiting ended the connection that the one before it had made anew."""
    backend = ToozLocks("any://", 30.0)
    take(backend, "a")
    answers = made[0].answers = Event()
    made[0].asked.clear()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(take, backend, "a")
        assert made[0].asked.wait(HANG_S)
        made[0].answers, made[0].broken = None, True
        with pytest.raises(Transient):
            take(backend, "b")
        with backend.hold("b"):
            answers.set()
            with pytest.raises(Transient):
                waiting.result(HANG_S)
            take(backend, "c")
    assert len(made) == 2
