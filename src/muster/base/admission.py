"""Admit steadily: a bounded number of holders, the rest wait in a visible queue, first come, first served.

Invariants: never more than `limit` holders, except while a lowered limit drains; a slot is never lost, whoever is
cancelled when; nobody overtakes who waits.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from muster.base.errors import Bug, Transient


class Admission:
    """Slots for something that hardware can do only so often at a time; for one event loop."""

    def __init__(self, limit: int, *, max_waiting: int = 100_000) -> None:
        self._limit = _checked(limit)
        self._max_waiting = max_waiting
        self._in_use = 0
        self._waiting = 0
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def limit(self) -> int:
        """How many may hold a slot at a time."""
        return self._limit

    @property
    def in_use(self) -> int:
        """How many hold a slot."""
        return self._in_use

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return self._waiting

    def try_acquire(self) -> bool:
        """Take a slot if one is free and nobody waits for it."""
        if self._in_use >= self._limit or self._waiting:
            return False
        self._in_use += 1
        return True

    async def acquire(self) -> None:
        """Take a slot, waiting for one. Raises Transient when `max_waiting` wait already."""
        if self.try_acquire():
            return
        if self._waiting >= self._max_waiting:
            raise Transient("too many are waiting for admission")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._waiting += 1
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                self._waiting -= 1
            else:  # given a slot and cancelled in the same turn
                self.release()
            raise

    def release(self) -> None:
        """Give a slot back; the longest waiting takes it. Raises Bug when none is held."""
        if self._in_use <= 0:
            raise Bug("a slot was given back that nobody held")
        self._in_use -= 1
        self._grant()

    def resize(self, limit: int) -> None:
        """Change the limit. Holders keep their slots: a lower limit takes effect as they leave."""
        self._limit = _checked(limit)
        self._grant()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot for the length of a block. Raises Transient like `acquire`."""
        await self.acquire()
        try:
            yield
        finally:
            self.release()

    def _grant(self) -> None:
        while self._waiters and self._in_use < self._limit:
            waiter = self._waiters.popleft()
            if not waiter.done():  # a cancelled one has left
                self._in_use += 1
                self._waiting -= 1
                waiter.set_result(None)


def _checked(limit: int) -> int:
    if limit < 1:
        raise Bug(f"a limit of {limit} would admit nobody, ever")
    return limit
