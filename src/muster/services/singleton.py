"""Work that one process of the cluster does for all: whoever holds a lock does it, and another one when it is gone.

Invariant: the work stops the moment the lock is known to be lost. It may still overlap with the next holder's for as
long as that takes to be known (a process that was stopped, and goes on), so it must be work of which twice is harmless:
what it writes is conditional, as everywhere.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping

from muster.base.errors import Transient
from muster.base.log import get_logger
from muster.base.metrics import SINGLETON
from muster.base.tasks import kept_running
from muster.locks.protocol import LockService

log = get_logger(__name__)

Work = Callable[[], Coroutine[object, object, None]]


class Singleton:
    """Runs all `works` while it holds the lock `singleton/NAME`; each is begun anew when it fails."""

    def __init__(self, locks: LockService, name: str, works: Mapping[str, Work]) -> None:
        self._locks = locks
        self._name = name
        self._works = works

    async def run(self) -> None:
        """For ever, waiting most of the time. Costs what waiting for a lock costs: a lease that is renewed.

        Another takes over as soon as the lock service lets it: at once when the holder ends in order, within a lease
        when it dies.
        """
        while True:
            try:
                async with self._locks.hold(f"singleton/{self._name}") as grant:
                    log.info("works for the whole cluster", action="singleton.begin", name=self._name)
                    await self._work_until(grant.lost)
                    log.warning("another may work now", action="singleton.lost", name=self._name)
            except Transient as error:
                log.warning("waits to work", action="singleton.delayed", name=self._name, error=error.message)
                await asyncio.sleep(error.retry_after_s)

    async def _work_until(self, lost: asyncio.Event) -> None:
        tasks = [asyncio.create_task(kept_running(name, work), name=name) for name, work in self._works.items()]
        SINGLETON.labels(self._name).set(1)
        try:
            await lost.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            SINGLETON.labels(self._name).set(0)
