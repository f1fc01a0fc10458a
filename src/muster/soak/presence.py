"""Whether the cloud is there at all: told by the one who asks it all the time, waited for by the users.

Users who find the cloud away fail once, in what they were doing, and then wait here instead of asking again and again.
"""

import asyncio
from collections.abc import Callable

from muster.soak.statistics import Away


class Presence:
    """There, or away since some moment."""

    def __init__(self, now: Callable[[], float], note: Callable[[Away], None]) -> None:
        self._now = now
        self._note = note
        self._here = asyncio.Event()
        self._here.set()
        self._reason = ""
        self.away_since_s: float | None = None

    async def here(self) -> None:
        """Wait until the cloud is there."""
        await self._here.wait()

    def failed(self, since_s: float, reason: str) -> None:
        """A look at the cloud that began at `since_s` found it away."""
        if self.away_since_s is None:
            self.away_since_s, self._reason = since_s, reason
            self._here.clear()

    def answered(self) -> None:
        """The cloud is there."""
        if self.away_since_s is not None:
            self._note(Away(self.away_since_s, self._now() - self.away_since_s, self._reason))
            self.away_since_s = None
            self._here.set()

    def close(self) -> None:
        """An outage that has not ended counts as far as it went."""
        self.answered()
