"""A bound for calls into a library that, when its server is away, tries again for a minute before it says so.

Each call runs in a thread of its own (a green one under eventlet), which is left alone when it takes too long. From
then on the server counts as away: calls are refused at once, but one that asks again every so often.
"""

from collections.abc import Callable
from contextlib import suppress
from threading import Event as Gate
from threading import Lock, Thread
from time import monotonic
from typing import Generic, TypeVar

from muster.base.errors import Transient

Result = TypeVar("Result")


class _Call(Generic[Result]):
    """One call; either its caller takes what came of it, or, when that came too late, `undo` gets it."""

    def __init__(self, work: Callable[[], Result], undo: Callable[[Result], object]) -> None:
        self._work = work
        self._undo = undo
        self._guard = Lock()
        self._left = False
        self._ended = Gate()
        self._result: Result | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error
        with self._guard:
            self._ended.set()
            left = self._left
        if left and self._error is None:
            with suppress(Exception):
                self._undo(self._result)  # type: ignore[arg-type]  # without an error there is a result

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended in time; if not, nobody waits for it any more."""
        if self._ended.wait(timeout_s):
            return True
        with self._guard:
            self._left = not self._ended.is_set()
            return not self._left

    def outcome(self) -> Result:
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # it has ended, and without an error


class Bound:
    """Calls to one server, each of `answer_s` seconds at most; thread-safe."""

    def __init__(self, answer_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._answer_s = answer_s
        self._clock = clock
        self._guard = Lock()
        self._refused_until: float | None = None  # None: it answers

    def call(self, work: Callable[[], Result], undo: Callable[[Result], object] = lambda _: None) -> Result:
        """What `work` returns or raises. Raises Transient when that takes too long, or has just done so.

        `undo` gets what a call returned that nobody waited for any more.
        """
        self._admit()
        one = _Call(work, undo)
        Thread(target=one.run, daemon=True).start()
        ended = one.wait(self._answer_s)
        with self._guard:
            self._refused_until = None if ended else self._clock() + self._answer_s
        if not ended:
            raise Transient(f"no answer within {self._answer_s:g} s")
        return one.outcome()

    def _admit(self) -> None:
        with self._guard:
            if self._refused_until is None:
                return
            now = self._clock()
            if now < self._refused_until:
                raise Transient(f"no answer within {self._answer_s:g} s, a moment ago")
            self._refused_until = now + self._answer_s  # this one finds out; the others wait for what it finds
