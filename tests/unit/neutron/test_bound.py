"""Calls into a library that may take for ever."""

from contextlib import suppress
from threading import Event

import pytest

from muster.base.errors import Transient
from muster.neutron.bound import Bound

WAIT_S = 300.0


def test_what_a_call_returns_or_raises() -> None:
    bound = Bound(WAIT_S)
    assert bound.call(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        bound.call(lambda: 1 // 0)


def test_a_call_without_an_answer_is_left_and_what_came_of_it_undone() -> None:
    go, undone = Event(), Event()
    with pytest.raises(Transient):
        Bound(0.01).call(lambda: go.wait(WAIT_S), lambda answer: answer and undone.set())
    go.set()
    assert undone.wait(WAIT_S)


def test_then_calls_are_refused_but_one_that_tries_again() -> None:
    now = 0.0
    bound = Bound(0.01, lambda: now)
    go, tried = Event(), Event()
    refused: list[str] = []

    def another() -> None:
        with pytest.raises(Transient, match="a moment ago"):
            bound.call(lambda: refused.append("was called"))
        refused.append("refused")

    with pytest.raises(Transient):
        bound.call(lambda: go.wait(WAIT_S))
    another()
    now = 1.0
    with suppress(Transient):  # on a busy machine it has no answer in time either
        bound.call(lambda: (another(), tried.set()))
    assert tried.wait(WAIT_S)
    assert refused == ["refused", "refused"]
    go.set()
