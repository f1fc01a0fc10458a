"""Servers that were deleted: their rows stay to be seen for a while, and go in the end."""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.store.dialects import among, chunks
from muster.store.instance_actions import instance_actions
from muster.store.servers import server_tags, servers


async def read_due(connection: AsyncConnection, *, before: float, limit: int) -> list[str]:
    """The ids of servers that were deleted before that moment, at most `limit`. One query.

    It goes over what has not changed since `before`, by `ix_servers_updated`: it passes over servers that are there and
    were left alone for as long, which is why it is asked seldom and for many at a time.
    """
    due = servers.c.updated_at < before, servers.c.deleted_at < before
    return list((await connection.execute(select(servers.c.id).where(*due).limit(limit))).scalars())


async def remove(connection: AsyncConnection, server_ids: Sequence[str]) -> int:
    """Remove these servers' rows, with what was asked of them and their tags; how many of them there still were.

    One that is not deleted stays, with all of it. Four statements per chunk.
    """
    removed = 0
    for part in chunks(server_ids):
        gone = among(servers.c.id, part) & servers.c.deleted_at.is_not(None)
        found = list((await connection.execute(select(servers.c.id).where(gone))).scalars())
        await connection.execute(delete(instance_actions).where(among(instance_actions.c.server_id, found)))
        await connection.execute(delete(server_tags).where(among(server_tags.c.server_id, found)))
        await connection.execute(delete(servers).where(among(servers.c.id, found)))
        removed += len(found)
    return removed
