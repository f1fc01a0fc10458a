"""One thing at a time per server; different servers do not wait for each other."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

#: How many ended turns are remembered one by one; before them, every server counts as changed.
_REMEMBERED = 10_000


class Turns:
    """A fair lock per server, and a count of turns by which a reader sees that something was done since."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}
        self._ended = 0
        self._forgotten = 0
        self._last: dict[str, int] = {}

    @contextlib.asynccontextmanager
    async def of(self, server_id: str) -> AsyncIterator[None]:
        """Wait for the server's turn and hold it."""
        lock, users = self._locks.get(server_id, (asyncio.Lock(), 0))
        self._locks[server_id] = (lock, users + 1)
        try:
            async with lock:
                try:
                    yield
                finally:
                    self._end(server_id)
        finally:
            lock, users = self._locks.pop(server_id)
            if users > 1:
                self._locks[server_id] = (lock, users - 1)

    def moment(self) -> int:
        """Now, for `changed_since`."""
        return self._ended

    def changed_since(self, server_id: str, moment: int) -> bool:
        """Whether a turn of this server has (or, long after, may have) ended since `moment`."""
        return self._last.get(server_id, self._forgotten) > moment

    def _end(self, server_id: str) -> None:
        self._ended += 1
        self._last.pop(server_id, None)
        self._last[server_id] = self._ended
        if len(self._last) > _REMEMBERED:
            self._forgotten = self._last.pop(next(iter(self._last)))
