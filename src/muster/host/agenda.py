"""One timer for a whole process: what is to be done later, for any number of hosts.

Invariant: however many hosts and entries there are, the event loop holds one timer, that of the earliest entry.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable

# uvloop counts in milliseconds and may fire that much early; an early timer would be set again, over and over.
_RESOLUTION_S = 0.001


class Entry:
    """Something to be done at a time; it can be cancelled until then."""

    __slots__ = ("action", "at_s", "number")

    def __init__(self, at_s: float, number: int, action: Callable[[], None]) -> None:
        self.at_s = at_s
        self.number = number
        self.action: Callable[[], None] | None = action

    def __lt__(self, other: "Entry") -> bool:
        return (self.at_s, self.number) < (other.at_s, other.number)

    def cancel(self) -> None:
        """Do not do it. Costs nothing; harmless once done."""
        self.action = None


class Agenda:
    """Runs plain functions at their time on the event loop that is running when it is made."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._entries: list[Entry] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def now(self) -> float:
        """The loop's clock, in seconds: for comparing only."""
        return self._loop.time()

    def after(self, delay_s: float, action: Callable[[], None]) -> Entry:
        """Do `action` in `delay_s` seconds; it must neither block nor raise. O(log entries)."""
        entry = Entry(self._loop.time() + delay_s, next(self._numbers), action)
        heapq.heappush(self._entries, entry)
        if self._entries[0] is entry:
            self._set_timer()
        return entry

    def close(self) -> None:
        """Do nothing more."""
        self._closed = True
        self._entries.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._entries and not self._closed:
            self._timer = self._loop.call_at(self._entries[0].at_s + _RESOLUTION_S, self._run)

    def _run(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        try:
            while self._entries and self._entries[0].at_s <= now_s:
                action = heapq.heappop(self._entries).action
                if action is not None:
                    action()
        finally:
            self._set_timer()
