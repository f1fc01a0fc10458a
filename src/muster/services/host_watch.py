"""Tells operators which hosts are down: by the log when that changes, by a metric at any time."""

import asyncio

from muster.base.clock import Clock
from muster.base.log import get_logger
from muster.base.metrics import HOSTS
from muster.base.tasks import repeating
from muster.domain.servers import HOST_TIMEOUT_S
from muster.store import hosts as store
from muster.store.engine import Database

log = get_logger(__name__)

_LOOK_S = 5.0
_NAMED = 10


class HostWatch:
    """For one process of the cluster; see `Singleton`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._down: set[str] = set()

    async def run(self) -> None:
        """Look for ever. Raises what `Database.read` raises."""
        await asyncio.sleep(_LOOK_S)  # hosts of a cloud that has just been started say hello
        try:
            await repeating(self.look, _LOOK_S)
        finally:
            self._down = set()
            HOSTS.clear()  # another process tells now

    async def look(self) -> None:
        """Two queries."""
        async with self._database.read() as connection:
            down = await store.read_down(connection, seen_after=self._clock() - HOST_TIMEOUT_S)
            total = await store.count(connection)
        HOSTS.labels("up").set(total - len(down))
        HOSTS.labels("down").set(len(down))
        if fell := down - self._down:
            log.warning(
                "hosts are down: nothing is heard of them, or an administrator said so",
                action="hosts.down",
                hosts=_named(fell),
                count=len(fell),
            )
        if rose := self._down - down:
            log.warning(
                "hosts are not down any more, or were forgotten",
                action="hosts.back",
                hosts=_named(rose),
                count=len(rose),
            )
        self._down = down


def _named(hostnames: set[str]) -> list[str]:
    return sorted(hostnames)[:_NAMED]
