"""Servers as they are: reading them, one by one and in pages, and what was asked of them."""

from collections.abc import Callable

from msgspec.structs import replace

from muster.base.coalescer import Coalescer
from muster.base.errors import NotFound
from muster.domain.context import Context
from muster.domain.instance_actions import ActionQuery, InstanceAction
from muster.domain.server_listing import ServerQuery, judge, looks_at_addresses
from muster.domain.servers import Server
from muster.services.redecide import redecided
from muster.store import instance_actions as action_store
from muster.store import server_listing as listing_store
from muster.store import servers as store
from muster.store.engine import Connection, Database

# How many servers are judged at once, at least.
_LEAST_PART = 100


class Servers:
    """The use cases of reading servers."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reads: Coalescer[str, Server | None] = Coalescer(
            redecided("servers.read", self._read), name="servers.read"
        )

    async def get(self, context: Context, server_id: str) -> Server:
        """A server with its interfaces and tags. Raises NotFound. Concurrent reads share their queries."""
        return visible(context, await self._reads.submit(server_id), server_id)

    async def page(self, query: ServerQuery) -> list[Server]:
        """A page of servers. Raises NotFound for an unknown marker.

        About three queries; where the database cannot judge a pattern, as many pages as have the servers it may mean.
        """
        meets = judge(query)
        async with self._database.read() as connection:
            if meets is None:
                return await listing_store.read_page(connection, query)
            return await _sift(connection, query, meets)

    async def actions(
        self, context: Context, server_id: str, query: ActionQuery, *, of_deleted: bool
    ) -> tuple[Server, list[InstanceAction]]:
        """A server and what was asked of it, newest first. Raises NotFound (the server, or the marker).

        `of_deleted` also answers for a server that is gone.
        """
        server = visible(context, await self._reads.submit(server_id), server_id, of_deleted=of_deleted)
        async with self._database.read() as connection:
            return server, await action_store.read(connection, server_id, query)

    async def _read(self, server_ids: list[str]) -> list[Server | None]:
        async with self._database.read() as connection:
            found = await store.read_by_ids(connection, server_ids, interfaces=True)
        return [found.get(server_id) for server_id in server_ids]


async def _sift(connection: Connection, query: ServerQuery, meets: Callable[[Server], bool]) -> list[Server]:
    """The first servers of a query that meet what it means, from as many pages as it takes."""
    found: list[Server] = []
    part = replace(query, limit=max(query.limit, _LEAST_PART), interfaces=looks_at_addresses(query))
    while True:
        page = await listing_store.read_page(connection, part)
        found += filter(meets, page)
        if len(found) >= query.limit or len(page) < part.limit:
            break
        part = replace(part, marker=page[-1].id)
    found = found[: query.limit]
    return await store.with_details(connection, found) if query.interfaces and not part.interfaces else found


def visible(context: Context, server: Server | None, server_id: str, *, of_deleted: bool = False) -> Server:
    """The server, if the caller may know of it. Raises NotFound."""
    gone = server is None or (server.deleted_at is not None and not of_deleted)
    if server is None or gone or not context.sees(server.project_id):
        raise NotFound(f"Instance {server_id} could not be found.", code="compute.server")
    return server
