"""Removes what was asked of servers long ago, which would otherwise be kept for as long as the server is there.

What was asked of a deleted server goes with it (`services.deleted_servers`). Invariant: a server keeps the record of
its creation, and none goes of what is still under way. Done twice, or not to its end, it is harmless.
"""

import math

from muster.base.clock import Clock
from muster.base.log import get_logger
from muster.services.purging import remove_in_parts
from muster.store import instance_actions as store
from muster.store.engine import Database

log = get_logger(__name__)

KEEP_S = 365 * 86_400.0
# A transaction removes so many.
BATCH = 2_000
_READ = 10_000


class OldActions:
    """For one process of the cluster; see `Singleton`."""

    def __init__(self, database: Database, clock: Clock, keep_s: float = KEEP_S) -> None:
        self._database = database
        self._clock = clock
        self._keep_s = keep_s

    async def purge(self) -> int:
        """Remove what ended more than `keep_s` ago; how many actions. For ever is `math.inf`.

        Cost: a query per 10,000 actions that began before then, the creations of servers that are there among them, and
        a transaction of one statement per 2,000 that go, with a pause after it.
        """
        if math.isinf(self._keep_s):
            return 0
        before, removed = self._clock() - self._keep_s, 0
        after: int | None = 0
        while after is not None:
            async with self._database.read() as connection:
                due, after = await store.read_due(connection, after=after, before=before, limit=_READ)
            removed += await remove_in_parts(self._database, due, store.remove, BATCH)
        if removed:
            log.info("forgot what was asked of servers", action="actions.purge", actions=removed)
        return removed
