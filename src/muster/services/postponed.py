"""Work on the database that is done a moment later, and waits for a database that is away."""

import asyncio
from collections.abc import Awaitable, Callable

from muster.base.errors import Transient
from muster.base.log import get_logger
from muster.services.redecide import redeciding

log = get_logger(__name__)


class Postponed:
    """Keeps what is to be done later by one task, so that it ends with it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def later(self, after_s: float, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` after so many seconds. If it fails nothing else does: the error is logged."""

        async def run() -> None:
            await asyncio.sleep(after_s)
            try:
                await at_last(what, work)
            except Exception as error:  # what is lost is asked for again by the next heartbeat
                log.error("message lost", action="reports.lost", error=repr(error), exc_info=True)

        task = asyncio.create_task(run(), name=what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def cancel(self) -> None:
        """Do nothing of what is left."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def at_last(what: str, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` until the database is there for it; decided again when what it decided on has changed."""
    while True:
        try:
            return await redeciding(what, work)
        except Transient as error:
            log.warning("reports not written", action="reports.delayed", error=error.message)
            await asyncio.sleep(error.retry_after_s)
