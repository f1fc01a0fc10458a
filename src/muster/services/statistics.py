"""Keeps what the database knows of its own tables up with a cloud that grows by thousands of servers in seconds."""

from muster.base.log import get_logger
from muster.store import statistics as store
from muster.store.engine import Database

log = get_logger(__name__)


class Statistics:
    """For one process of the cluster; see `Singleton`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def refresh(self) -> list[str]:
        """Have the database look again at tables that have grown by half; which. One query, and if there are any a
        transaction of one statement. Raises what `Database.write` raises.
        """
        async with self._database.read() as connection:
            grown = await store.read_grown(connection)
        if grown:
            async with self._database.write() as connection:
                await store.analyze(connection, grown)
            log.info("tables have grown: the database looked at them again", action="statistics.refresh", tables=grown)
        return grown
