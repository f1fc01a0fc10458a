"""Removes many rows a part at a time: on SQLite there is one writer, and on PostgreSQL what is held is held for others.

Invariant: a part is a transaction, so what is done twice, or not to its end, is harmless if each part is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from muster.store.engine import Connection, Database

#: Others go before the next part.
PAUSE_S = 0.1

Id = TypeVar("Id")


async def remove_in_parts(
    database: Database, ids: Sequence[Id], remove: Callable[[Connection, Sequence[Id]], Awaitable[int]], batch: int
) -> int:
    """`remove` these, `batch` at a time; how many it says there were. A transaction per part, with a pause after it."""
    removed = 0
    for first in range(0, len(ids), batch):
        async with database.write() as connection:
            removed += await remove(connection, ids[first : first + batch])
        await asyncio.sleep(PAUSE_S)
    return removed
