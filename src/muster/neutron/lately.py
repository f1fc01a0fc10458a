"""What was noted lately. The rest is forgotten: a process serves for months, and subnets come and go."""

import time
from collections.abc import Callable
from threading import Lock


class Lately:
    """Names that were noted within the last `age_s`; thread-safe. Keeps no older ones."""

    def __init__(self, age_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._age_s = age_s
        self._clock = clock
        self._guard = Lock()
        self._until: dict[str, float] = {}  # the first to be forgotten is first

    def note(self, name: str) -> None:
        """Remember a name from now on. O(1), and one for each that is forgotten."""
        with self._guard:
            now = self._clock()
            self._until.pop(name, None)
            self._until[name] = now + self._age_s
            while (oldest := next(iter(self._until))) != name and self._until[oldest] <= now:
                del self._until[oldest]

    def __contains__(self, name: str) -> bool:
        with self._guard:
            return self._clock() < self._until.get(name, float("-inf"))

    def __len__(self) -> int:
        return len(self._until)
