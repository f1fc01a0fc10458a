"""Changes of servers that their hosts need not bring about: names, metadata, tags, locks, states reset by an admin."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from muster.base.errors import Forbidden, Invalid
from muster.domain.context import Context
from muster.domain.instance_actions import InstanceAction
from muster.domain.quotas import METADATA_ITEMS, limit_of_user
from muster.domain.server_changes import check_settled, check_unlocked, locked, reset, unlocked
from muster.domain.servers import Server
from muster.services.port_batch import PortBatch
from muster.services.redecide import redeciding
from muster.services.servers import Servers, visible
from muster.store import instance_actions as action_store
from muster.store import servers as store
from muster.store.engine import Connection, Database

TAGS_LIMIT = 50

Decide = Callable[[Server], Server]


class ServerChanges:
    """Each change is one transaction in which the server is read, judged and written."""

    def __init__(self, database: Database, ports: PortBatch, servers: Servers) -> None:
        self._database = database
        self._ports = ports
        self._servers = servers

    async def update(self, context: Context, server_id: str, values: Mapping[str, Any]) -> Server:
        """Set fields; the guest's metadata follows. Raises NotFound, Conflict where it is locked."""

        def decide(server: Server) -> Server:
            check_unlocked(context, server)
            return replace(server, **values)

        await self._change(context, server_id, decide)
        return await self._servers.get(context, server_id)

    async def change_metadata(
        self, context: Context, server_id: str, change: Callable[[dict[str, str]], dict[str, str]], action: str
    ) -> dict[str, str]:
        """Replace metadata by what `change` makes of it. Raises NotFound, Conflict, Forbidden beyond quota."""

        def decide(server: Server) -> Server:
            check_unlocked(context, server)
            check_settled(server, action, idle=True)
            return replace(server, metadata=change(server.metadata))

        server = await self._change(context, server_id, decide, checks=partial(self._check_items, context.user_id))
        return server.metadata

    async def change_tags(
        self, context: Context, server_id: str, change: Callable[[tuple[str, ...]], Sequence[str]], action: str
    ) -> tuple[str, ...]:
        """Replace tags by what `change` makes of them. Raises NotFound, Conflict, Invalid beyond the limit."""

        async def decide() -> tuple[str, ...]:
            async with self._database.write() as connection:
                server = await self._read(connection, context, server_id)
                check_unlocked(context, server)
                check_settled(server, action, idle=False)
                [whole] = await store.with_details(connection, [server])
                tags = tuple(sorted(set(change(whole.tags))))
                if len(tags) > max(TAGS_LIMIT, len(whole.tags)):
                    raise Invalid(f"The number of tags exceeded the per-server limit {TAGS_LIMIT}")
                if tags != whole.tags:
                    await store.set_tags(connection, server_id, tags)
            return tags

        return await redeciding("servers.tags", decide)

    async def lock(self, context: Context, server_id: str, reason: str | None, request_id: str) -> None:
        """Let only admins change a server. Raises NotFound."""
        await self._change(
            context, server_id, lambda server: locked(server, context, reason), action=("lock", request_id)
        )

    async def unlock(self, context: Context, server_id: str, request_id: str) -> None:
        """Take a lock away. Raises NotFound, Forbidden for an owner where an admin has locked."""
        await self._change(context, server_id, lambda server: unlocked(server, context), action=("unlock", request_id))

    async def reset_state(self, context: Context, server_id: str, vm_state: str, request_id: str) -> None:
        """Say that a server is `active` or in `error`, whatever its host says. Raises NotFound."""
        now = self._ports.clock()
        await self._change(
            context, server_id, lambda server: reset(server, vm_state, now), action=("resetState", request_id)
        )

    async def tell_network(self, context: Context, server_id: str) -> None:
        """Have a server's host go through its network again. Raises NotFound. A server in ERROR is left alone.

        A host repairs by itself what it finds different; this is for who does not want to wait for that.
        """

        async def once() -> None:
            async with self._ports.changes.transaction(self._database) as (connection, telling):
                server = await self._read(connection, context, server_id)
                if server.vm_state != "error":
                    await telling.servers_changed([server_id])

        await redeciding("servers.tell_network", once)

    async def _change(
        self,
        context: Context,
        server_id: str,
        decide: Decide,
        *,
        checks: "Callable[[Connection, Server], Any] | None" = None,
        action: tuple[str, str] | None = None,
    ) -> Server:
        async def once() -> Server:
            async with self._ports.changes.transaction(self._database) as (connection, telling):
                server = await self._read(connection, context, server_id)
                changed = decide(server)
                if changed == server and action is None:
                    return server
                if checks is not None:
                    await checks(connection, changed)
                now = self._ports.clock()
                changed = replace(changed, updated_at=now)
                await store.write(connection, [changed])
                if action is not None:
                    await action_store.insert(connection, [_done(context, changed, action, now)])
                elif changed.vm_state != "error":
                    # A host tries again what failed as soon as it hears of something newer; a new name is no reason.
                    await telling.servers_changed([server_id])
            return changed

        return await redeciding("servers.change", once)

    async def _read(self, connection: Connection, context: Context, server_id: str) -> Server:
        found = await store.read_by_ids(connection, [server_id], lock=True)
        return visible(context, found.get(server_id), server_id)

    async def _check_items(self, user_id: str, connection: Connection, server: Server) -> None:
        quotas, project_id = self._ports.quotas, server.project_id
        standing = await quotas.limits_with_users(connection, [project_id], [user_id], [METADATA_ITEMS])
        limit = limit_of_user(standing.limits, project_id, user_id, METADATA_ITEMS)
        if len(server.metadata) > limit >= 0:
            raise Forbidden(f"Maximum number of metadata items exceeds {limit}", code="compute.quota")


def _done(context: Context, server: Server, action: tuple[str, str], now: float) -> InstanceAction:
    name, request_id = action
    return InstanceAction(
        server_id=server.id,
        action=name,
        request_id=request_id,
        user_id=context.user_id,
        project_id=context.project_id or server.project_id,
        started_at=now,
        updated_at=now,
        finished_at=now,
    )
