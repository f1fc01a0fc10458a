"""How many connections a worker takes on before it leaves further ones to the others of its machine.

These wait in the kernel, in one queue that all workers take from. So of a burst each worker has what it can answer, and
one that dies takes with it no more than that. Who is slow, such as a host that fetches an image or a client that asks
nothing, shuts nobody out: who is still waited for REST_S after the worker had its fill is counted no more.
"""

import asyncio

#: How long a worker that is full waits for answers of its own, in seconds, before it takes on more.
REST_S = 2.0


class Intake:
    """Counts connections to which an answer is due: full with `at_once` of them, until no more than half are left.

    `changed` is set whenever `is_full` has changed.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._due: set[object] = set()
        self.is_full = False
        self.changed = asyncio.Event()

    def begin(self, connection: object) -> None:
        """It has been accepted, or asks something."""
        self._due.add(connection)
        self._look()

    def end(self, connection: object) -> None:
        """It has been answered, or is closed."""
        self._due.discard(connection)
        self._look()

    def pass_over(self) -> None:
        """Count none of these any more."""
        self._due.clear()
        self._look()

    def _look(self) -> None:
        is_full = len(self._due) > (self._at_once // 2 if self.is_full else self._at_once - 1)
        if is_full is not self.is_full:
            self.is_full = is_full
            self.changed.set()
