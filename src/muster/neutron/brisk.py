"""While a lock is held, Python's threads hand over to each other sooner.

A thread that waits for the database gives up Python's own lock, and gets it back only when another thread is made to
let go: after 5 ms, with seven busy threads ahead of it 35 ms, for each statement of an allocation, while the subnet's
lock is held. Measured with seven busy threads on 2 busy cores: five statements took 354 ms; with this 48 ms.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_INTERVAL_S = 0.0005


class Brisk:
    """Counts who wants it; the interval is as it was when nobody does any more."""

    def __init__(self) -> None:
        self._guard = Lock()
        self._wanted = 0
        self._before = sys.getswitchinterval()

    @contextmanager
    def while_held(self) -> Iterator[None]:
        with self._guard:
            self._wanted += 1
            if self._wanted == 1:
                self._before = sys.getswitchinterval()
                sys.setswitchinterval(min(self._before, _INTERVAL_S))
        try:
            yield
        finally:
            with self._guard:
                self._wanted -= 1
                if not self._wanted:
                    sys.setswitchinterval(self._before)
