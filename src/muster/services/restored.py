"""What is to be done when a database was restored, before anybody works with it.

Hosts may know of more than it does, under numbers that it will give out again: what is told of under these would be
taken for known. A heartbeat shows that only as long as the host is ahead. So all hosts begin anew, whatever they know.
"""

from muster.base.clock import Clock
from muster.store import hosts as host_store
from muster.store.engine import Database


async def begin_anew(database: Database, clock: Clock) -> int:
    """Each host will be sent everything, and forget what it was told before; how many hosts. Harmless at any time.

    One transaction, two statements. Raises Transient.
    """
    async with database.write() as connection:
        return await host_store.begin_epoch_of_all(connection, clock())
