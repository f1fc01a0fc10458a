"""Removes what the database keeps of deleted servers, after a while.

Administrators see deleted servers (`deleted=true`), clients that follow changes hear of them (`changes-since`), and
what was used is counted from them (`os-simple-tenant-usage`). So their rows stay for `keep_s`, and not for ever, or the
database would grow with every server that ever was.

Invariant: a server that is not deleted is never touched. Whatever of it is done twice, or not to its end, is harmless.
"""

import asyncio
import math

from muster.base.clock import Clock
from muster.base.log import get_logger
from muster.store import deleted_servers as store
from muster.store.engine import Database

log = get_logger(__name__)

KEEP_S = 30 * 86_400.0
# A transaction removes so many, and lets others go before the next: on SQLite there is one writer at a time.
BATCH = 500
PAUSE_S = 0.1
_READ = 10_000


class DeletedServers:
    """For one process of the cluster; see `Singleton`."""

    def __init__(self, database: Database, clock: Clock, keep_s: float = KEEP_S) -> None:
        self._database = database
        self._clock = clock
        self._keep_s = keep_s

    async def purge(self) -> int:
        """Remove all that were deleted more than `keep_s` ago; how many. For ever is `math.inf`.

        Cost: a query per 10,000 of them, and a transaction of four statements per 500, with a pause after it.
        """
        if math.isinf(self._keep_s):
            return 0
        before, removed = self._clock() - self._keep_s, 0
        while True:
            async with self._database.read() as connection:
                due = await store.read_due(connection, before=before, limit=_READ)
            for first in range(0, len(due), BATCH):
                async with self._database.write() as connection:
                    removed += await store.remove(connection, due[first : first + BATCH])
                await asyncio.sleep(PAUSE_S)
            if len(due) < _READ:
                break
        if removed:
            log.info("forgot deleted servers", action="servers.purge", servers=removed)
        return removed
