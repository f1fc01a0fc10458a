"""Whether the database is there. One task looks; everybody else waits for it.

Invariants: however many requests wait for a database that is away, one connection at a time is tried, later and later
and never in step with other processes; nobody waits longer than `patience_s` after the database was lost, and in a
longer absence nobody waits at all. The log says why it cannot be had, each reason once.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from random import Random, SystemRandom

from muster.base.errors import Transient
from muster.base.log import get_logger

log = get_logger(__name__)

_FIRST_PAUSE_S = 0.05
_LAST_PAUSE_S = 1.0


class Presence:
    """`look` connects and raises whatever it likes if it cannot. Used on one event loop."""

    def __init__(self, look: Callable[[], Awaitable[None]], patience_s: float, rng: Random | None = None) -> None:
        self._look = look
        self._patience_s = patience_s
        self._rng = rng or SystemRandom()
        self._looking: asyncio.Task[None] | None = None
        self._lost_at = 0.0

    def lost(self) -> None:
        """The database did not answer somebody: look for it, if nobody does yet."""
        if self._looking is None:
            self._lost_at = time.monotonic()
            self._looking = asyncio.create_task(self._find(), name="database is away")

    async def wait(self) -> None:
        """Until it is there. Raises Transient when it was lost `patience_s` ago and still is."""
        if self._looking is None:
            return
        left_s = self._lost_at + self._patience_s - time.monotonic()
        done, _ = await asyncio.wait({self._looking}, timeout=max(0.0, left_s))
        if not done:
            raise Transient("The database is away", retry_after_s=2.0)

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _find(self) -> None:
        pause_s, told = _FIRST_PAUSE_S, set[str]()
        log.warning("the database does not answer", action="store.away")
        try:
            while (why := await self._fault()) is not None:
                if why not in told:
                    told.add(why)
                    log.warning("no connection to the database", action="store.connect", error=why)
                await asyncio.sleep(pause_s * self._rng.uniform(0.5, 1.0))
                pause_s = min(2 * pause_s, _LAST_PAUSE_S)
            away_s = round(time.monotonic() - self._lost_at, 2)
            log.warning("the database answers again", action="store.back", after_s=away_s)
        finally:
            self._looking = None

    async def _fault(self) -> str | None:
        try:
            await self._look()
        except Exception as error:  # whatever it is, the database does not answer yet
            return repr(getattr(error, "orig", None) or error)  # the driver's own, without SQLAlchemy's words around it
        return None
