"""Removes what the database keeps of deleted servers, after a while.

Administrators see deleted servers (`deleted=true`), clients that follow changes hear of them (`changes-since`), and
what was used is counted from them (`os-simple-tenant-usage`). So their rows stay for `keep_s`, and not for ever, or the
database would grow with every server that ever was.

Invariant: a server that is not deleted is never touched. Whatever of it is done twice, or not to its end, is harmless.
"""

import math

from muster.base.clock import Clock
from muster.base.log import get_logger
from muster.services.purging import remove_in_parts
from muster.store import deleted_servers as store
from muster.store.engine import Database

log = get_logger(__name__)

KEEP_S = 30 * 86_400.0
# A transaction removes so many.
BATCH = 500
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
            removed += await remove_in_parts(self._database, due, store.remove, BATCH)
            if len(due) < _READ:
                break
        if removed:
            log.info("forgot deleted servers", action="servers.purge", servers=removed)
        return removed
