"""Security groups of servers: those of their ports, added to and taken from all of them at once."""

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from muster.base.errors import Invalid, NotFound
from muster.domain.context import Context
from muster.domain.group_members import Member, member_of
from muster.domain.ports import Port
from muster.domain.security_groups import SecurityGroup
from muster.domain.server_changes import check_unlocked
from muster.domain.server_lookups import find_group
from muster.domain.servers import Server
from muster.services.port_batch import PortBatch
from muster.services.redecide import redeciding
from muster.services.server_lookups import ServerLookups
from muster.services.servers import Servers, visible
from muster.store import ports as port_store
from muster.store import security_groups as group_store
from muster.store import server_ports
from muster.store import servers as store
from muster.store.engine import Connection, Database


class ServerSecurityGroups:
    """The use cases of a server's groups."""

    def __init__(
        self,
        database: Database,
        ports: PortBatch,
        servers: Servers,
        lookups: ServerLookups,
    ) -> None:
        self._database = database
        self._ports = ports
        self._servers = servers
        self._lookups = lookups

    async def page(self, context: Context, server_id: str) -> list[SecurityGroup]:
        """The groups of a server's ports, by name. Raises NotFound. About eight queries."""
        server = await self._servers.get(context, server_id)
        async with self._database.read() as connection:
            found = await port_store.read(connection, [interface.port_id for interface in server.interfaces])
            ids = {group_id for port in found.values() for group_id in port.security_group_ids}
            groups = await group_store.read(connection, ids)
        return sorted(groups.values(), key=lambda group: (group.project_id, group.name, group.id))

    async def add(self, context: Context, server_id: str, name: str) -> None:
        """Put all of a server's ports into a group. Raises NotFound, Conflict (lock, ambiguous name), Invalid."""
        await self._change(context, server_id, name, _added)

    async def remove(self, context: Context, server_id: str, name: str) -> None:
        """Take all of a server's ports out of a group. Raises NotFound, also if none is in it, Conflict."""
        await self._change(context, server_id, name, _removed)

    async def _change(self, context: Context, server_id: str, name: str, change: "_Change") -> None:
        async def once() -> None:
            async with self._ports.changes.transaction(self._database) as (connection, telling):
                found = await store.read_by_ids(connection, [server_id], lock=True)
                server = visible(context, found.get(server_id), server_id)
                check_unlocked(context, server)
                picture = await self._lookups.group_picture(connection, server.project_id, name)
                group_id = find_group(name, server.project_id, picture)
                before, after = await self._move(connection, server, group_id, change)
                await telling.servers_changed([server_id])
                await telling.members_changed(before, after)

        await redeciding("servers.groups", once)

    async def _move(
        self, connection: Connection, server: Server, group_id: str, change: "_Change"
    ) -> tuple[list[Member], list[Member]]:
        """What the server's ports were to their groups before, and what they are now."""
        now = self._ports.clock()
        port_ids = (await server_ports.read_port_ids(connection, [server.id])).get(server.id, [])
        if not port_ids:
            raise NotFound(f"instance_id {server.id} could not be found as device id on any ports")
        ports = await port_store.read(connection, port_ids)
        groups = {port.id: change(port, group_id) for port in ports.values()}
        if all(group_ids is None for group_ids in groups.values()):
            raise NotFound(f"Security group {group_id} not associated with the instance {server.id}")
        for port_id, group_ids in sorted(groups.items()):
            if group_ids is not None:
                await port_store.set_groups(connection, port_id, group_ids)
                await port_store.change(connection, port_id, {}, now)
        moved = {
            id_: replace(ports[id_], security_group_ids=tuple(ids)) for id_, ids in groups.items() if ids is not None
        }
        return [member_of(ports[id_]) for id_ in moved], [member_of(port) for port in moved.values()]


# The groups of a port afterwards; None if nothing changes.
_Change = Callable[[Port, str], Sequence[str] | None]


def _added(port: Port, group_id: str) -> Sequence[str]:
    if not port.port_security_enabled or not port.fixed_ips:
        raise Invalid("Network requires port_security_enabled and subnet associated in order to apply security groups.")
    return (*port.security_group_ids, group_id)


def _removed(port: Port, group_id: str) -> Sequence[str] | None:
    if group_id not in port.security_group_ids:
        return None
    return [one for one in port.security_group_ids if one != group_id]
