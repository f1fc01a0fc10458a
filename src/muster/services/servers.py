"""Servers as they are: reading them, and changing what their hosts need not act on."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from muster.base.coalescer import Coalescer
from muster.base.errors import NotFound
from muster.domain.context import Context
from muster.domain.servers import Server
from muster.services.port_batch import PortBatch
from muster.store import instance_actions as action_store
from muster.store import servers as store
from muster.store.engine import Database
from muster.store.instance_actions import InstanceAction
from muster.store.servers import ServerQuery


class Servers:
    """The use cases of servers. `wake` is called after a commit that left something in the outbox."""

    def __init__(self, database: Database, ports: PortBatch, wake: Callable[[], None]) -> None:
        self._database = database
        self._ports = ports
        self._wake = wake
        self._reads: Coalescer[str, Server | None] = Coalescer(self._read, name="servers.read")

    async def get(self, context: Context, server_id: str) -> Server:
        """A server with its interfaces and tags. Raises NotFound. Concurrent reads share their queries."""
        return visible(context, await self._reads.submit(server_id), server_id)

    async def page(self, query: ServerQuery) -> list[Server]:
        """A page of servers. Raises NotFound for an unknown marker. About six queries."""
        async with self._database.read() as connection:
            return await store.read_page(connection, query)

    async def update(self, context: Context, server_id: str, values: Mapping[str, Any]) -> Server:
        """Change fields of a server that its host need not act on. Raises NotFound."""
        async with self._database.write() as connection:
            found = (await store.read_by_ids(connection, [server_id])).get(server_id)
            server = visible(context, found, server_id)
            changed = replace(server, **values, updated_at=self._ports.clock())
            await store.write(connection, [changed])
            await self._ports.changes.servers_changed(connection, [server_id])
        self._wake()
        return await self.get(context, server_id)

    async def set_tags(self, context: Context, server_id: str, tags: Sequence[str]) -> None:
        """Replace a server's tags. Raises NotFound."""
        async with self._database.write() as connection:
            found = (await store.read_by_ids(connection, [server_id])).get(server_id)
            visible(context, found, server_id)
            await store.set_tags(connection, server_id, tags)

    async def actions(self, context: Context, server_id: str) -> list[InstanceAction]:
        """What was asked of a server, newest first. Raises NotFound."""
        await self.get(context, server_id)
        async with self._database.read() as connection:
            return await action_store.read(connection, server_id)

    async def _read(self, server_ids: list[str]) -> list[Server | None]:
        async with self._database.read() as connection:
            found = await store.read_by_ids(connection, server_ids, interfaces=True)
        return [found.get(server_id) for server_id in server_ids]


def visible(context: Context, server: Server | None, server_id: str) -> Server:
    """The server, if the caller may know of it. Raises NotFound."""
    if server is None or server.deleted_at is not None or not context.sees(server.project_id):
        raise NotFound(f"Instance {server_id} could not be found.", code="compute.server")
    return server
