"""Locks of Tooz: when a connection is made anew."""

from typing import Any

import pytest

from muster.base.errors import Transient
from muster.neutron import locks
from muster.neutron.locks import ToozLocks


class Coordinator:
    """A connection to a backend that may break: then nothing of it works any more."""

    def __init__(self) -> None:
        self.broken = False

    def start(self, start_heart: bool) -> None:
        pass

    def stop(self) -> None:
        pass

    def get_lock(self, name: bytes) -> "Coordinator":
        return self

    def acquire(self, blocking: float) -> bool:
        self._work()
        return True

    def release(self) -> None:
        self._work()

    def _work(self) -> None:
        if self.broken:
            raise ConnectionError


def test_what_is_left_of_a_broken_connection_does_not_end_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Coordinator] = []

    def connect(*_: Any) -> Coordinator:
        made.append(Coordinator())
        return made[-1]

    monkeypatch.setattr(locks.coordination, "get_coordinator", connect)
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
