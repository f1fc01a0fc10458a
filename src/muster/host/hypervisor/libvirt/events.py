"""The feed of what happens to guests, for one consumer.

Invariants: the newest state of each guest is delivered; states that nobody has read yet are replaced by newer ones, so
the feed never holds more than one entry per guest; a stop that is only half of a restart or of a removal is not told.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

from muster.domain.reports import GuestState
from muster.host.ports import GuestEvent


class Feed:
    """Collects states and hands them out in the order in which guests first changed."""

    def __init__(self) -> None:
        self._waiting: dict[str, GuestState] = {}
        self._arrived = asyncio.Event()
        self._closed = False
        self._quiet: set[str] = set()
        self._stops: dict[str, asyncio.Event] = {}

    def tell(self, server_id: str, state: GuestState) -> None:
        """A guest is in this state now."""
        if state is GuestState.STOPPED and server_id in self._stops:
            self._stops[server_id].set()
        if server_id not in self._quiet:
            self._waiting[server_id] = state
            self._arrived.set()

    @contextlib.contextmanager
    def quiet(self, server_id: str) -> Iterator[None]:
        """What happens to the guest meanwhile is not told; whoever does it tells the outcome."""
        self._quiet.add(server_id)
        try:
            yield
        finally:
            self._quiet.discard(server_id)

    @contextlib.contextmanager
    def stopping(self, server_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when the guest stops."""
        stopped = self._stops[server_id] = asyncio.Event()
        try:
            yield stopped
        finally:
            del self._stops[server_id]

    async def events(self) -> AsyncIterator[GuestEvent]:
        """All that is told, until `close`."""
        while True:
            while self._waiting:
                server_id = next(iter(self._waiting))
                yield GuestEvent(server_id, self._waiting.pop(server_id))
            if self._closed:
                return
            self._arrived.clear()
            await self._arrived.wait()

    def close(self) -> None:
        """End the feed once what waits has been read."""
        self._closed = True
        self._arrived.set()
