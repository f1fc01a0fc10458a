"""Ports: thousands of concurrent requests become a few batches (`services.port_batch`) of one transaction each."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from msgspec import Struct
from msgspec.structs import replace

from muster.base.coalescer import Coalescer
from muster.base.errors import MusterError, Stale
from muster.domain.context import Context
from muster.domain.group_members import member_of
from muster.domain.network_errors import network_error
from muster.domain.network_listing import ListQuery
from muster.domain.network_members import Binding
from muster.domain.networks import changed_fields, dhcp_device_id
from muster.domain.port_batch import draw_macs
from muster.domain.port_changes import (
    SEEN_BY_HOSTS,
    PortChanges,
    address_changes,
    check_update,
    create_refusal,
    merged_options,
    with_mac,
)
from muster.domain.ports import DHCP_OWNER, NewPort, Port
from muster.services.network_access import scope_of
from muster.services.port_batch import PortBatch
from muster.services.port_work import PortWork
from muster.services.redecide import redeciding, seeing_what_went
from muster.store import networks as network_store
from muster.store import port_batch as picture_store
from muster.store import ports as store
from muster.store import server_ports
from muster.store import servers as server_store
from muster.store.engine import Connection, Database, Violation
from muster.store.network_listing import MarkerNotFound

# What lives in tables of its own.
_JOINED = frozenset({"fixed_ips", "security_group_ids"})


class _Making(Struct, frozen=True):
    context: Context
    draft: NewPort


class _Removing(Struct, frozen=True):
    context: Context
    port_id: str


class Ports:
    """What can be asked of ports."""

    def __init__(self, database: Database, batch: PortBatch) -> None:
        self._database = database
        self._batch = batch
        self._making: Coalescer[_Making, Port] = Coalescer(self._make, name="ports.create")
        self._removing: Coalescer[_Removing, None] = Coalescer(self._remove, name="ports.delete")

    async def create(self, context: Context, draft: NewPort) -> Port:
        """Make a port together with whatever else waits. Raises what `PortWork.insert` returns, and Forbidden."""
        return await self._making.submit(_Making(context, draft))

    async def create_many(self, context: Context, drafts: Sequence[NewPort]) -> list[Port]:
        """Make all of these ports, or none. One transaction. Raises the first error of a port, as `create` does."""

        async def decide() -> list[Port]:
            async with self._transaction(drafts) as work:
                outcomes = await self._insert(work, [_Making(context, draft) for draft in drafts])
                if error := next((one for one in outcomes if isinstance(one, MusterError)), None):
                    raise error
                return [one for one in outcomes if isinstance(one, Port)]

        return await redeciding("ports", seeing_what_went(decide))

    async def get(self, context: Context, port_id: str) -> Port:
        """One port. Raises NotFound. Four queries, seven if it is another project's."""
        async with self._database.read() as connection:
            return await self._seen(connection, context, port_id)

    async def page(self, context: Context, query: ListQuery) -> list[Port]:
        """A page of the ports that the caller sees. Four queries. Raises NotFound for an unknown marker."""
        async with self._database.read() as connection:
            try:
                return await store.read_page(connection, query, scope_of(context))
            except MarkerNotFound as error:
                raise network_error("PortNotFound", port_id=query.marker) from error

    async def update(self, context: Context, port_id: str, changes: PortChanges) -> Port:
        """Change a port; its server's host hears of it. Raises NotFound, Forbidden, Conflict, Invalid, Exhausted."""
        async with self._database.read() as connection:
            network_id = (await self._seen(connection, context, port_id)).network_id

        async def decide() -> Port:
            try:
                async with self._batch.transaction([network_id]) as work:
                    owners = await _held(work.connection, [port_id])
                    await self._change(work, context, port_id, changes, set(owners.values()))
                    return await self._seen(work.connection, context, port_id)
            except Stale as error:
                if isinstance(error.__cause__, Violation) and error.__cause__.constraint == store.MAC_TAKEN:
                    raise network_error("MacAddressInUse", net_id=network_id, mac=changes.mac_address) from error
                raise

        return await redeciding("ports", seeing_what_went(decide))

    async def delete(self, context: Context, port_id: str) -> None:
        """Delete a port together with whatever else waits. Raises NotFound, Forbidden, Conflict for a DHCP port."""
        await self._removing.submit(_Removing(context, port_id))

    async def _make(self, items: list[_Making]) -> list[Port | MusterError]:
        async def decide() -> list[Port | MusterError]:
            async with self._transaction([item.draft for item in items]) as work:
                return await self._insert(work, items)

        return await redeciding("ports", seeing_what_went(decide))

    def _transaction(self, drafts: Sequence[NewPort]) -> AbstractAsyncContextManager[PortWork]:
        return self._batch.creation({draft.network_id for draft in drafts}, drafts, nothing_else=True)

    async def _insert(self, work: PortWork, items: Sequence[_Making]) -> list[Port | MusterError]:
        named = {group_id for item in items for group_id in item.draft.security_group_ids or ()}
        groups = await picture_store.read_group_projects(work.connection, named) if named else {}
        refused: dict[str, MusterError] = {}
        for item in items:
            if error := _refusal(work, item, groups):
                refused[item.draft.id] = error
        left = [self._with_mac(item.draft) for item in items if item.draft.id not in refused]
        outcomes = dict(zip([draft.id for draft in left], await work.insert(left), strict=True)) if left else {}
        return [refused.get(item.draft.id) or outcomes[item.draft.id] for item in items]

    def _with_mac(self, draft: NewPort) -> NewPort:
        """A draft whose address pairs all have a MAC address: the port's own where none is named."""
        if all(pair.mac_address for pair in draft.allowed_address_pairs):
            return draft
        batch = self._batch
        mac_address = draft.mac_address or draw_macs(1, batch.settings.mac_prefix, set(), batch.rng)[0]
        pairs = with_mac(draft.allowed_address_pairs, mac_address)
        return replace(draft, mac_address=mac_address, allowed_address_pairs=pairs)

    async def _change(
        self, work: PortWork, context: Context, port_id: str, changes: PortChanges, servers: Collection[str]
    ) -> None:
        connection = work.connection
        port = await self._seen(connection, context, port_id)
        check_update(port, changes, work.networks[port.network_id], context)
        fields = changed_fields(changes)
        if isinstance(changes.allowed_address_pairs, tuple):
            mac_address = str(fields.get("mac_address", port.mac_address))
            fields["allowed_address_pairs"] = with_mac(changes.allowed_address_pairs, mac_address)
        if isinstance(changes.extra_dhcp_opts, tuple):
            fields["extra_dhcp_opts"] = merged_options(port.extra_dhcp_opts, changes.extra_dhcp_opts)
        plain = {name: value for name, value in fields.items() if name not in _JOINED}
        await store.change(connection, port_id, plain, self._batch.clock())
        if isinstance(changes.fixed_ips, tuple):
            _, removed, added = address_changes(port, changes.fixed_ips)
            await work.remove_ips(port_id, removed)
            if added:
                await work.add_ips(port_id, port.network_id, port.mac_address, added)
        if isinstance(changes.security_group_ids, tuple):
            await self._check_groups(connection, context, port, changes.security_group_ids)
            await store.set_groups(connection, port_id, changes.security_group_ids)
        await self._tell(work, servers, port, await self._seen(connection, context, port_id))

    async def _check_groups(
        self, connection: Connection, context: Context, port: Port, group_ids: Sequence[str]
    ) -> None:
        groups = await picture_store.read_group_projects(connection, group_ids) if group_ids else {}
        for group_id in group_ids:
            if group_id not in groups or not (context.is_admin or groups[group_id] == port.project_id):
                raise network_error("SecurityGroupNotFound", id=group_id)

    async def _tell(self, work: PortWork, servers: Collection[str], before: Port, after: Port) -> None:
        if before.binding_host_id != after.binding_host_id:
            await work.telling.bindings_changed(
                came=[Binding(after.network_id, after.binding_host_id)],
                went=[Binding(before.network_id, before.binding_host_id)],
            )
        if not any(getattr(before, name) != getattr(after, name) for name in SEEN_BY_HOSTS):
            return
        await work.telling.servers_changed(servers)
        await work.telling.members_changed([member_of(before)], [member_of(after)])

    async def _remove(self, items: list[_Removing]) -> list[MusterError | None]:
        async def decide() -> list[MusterError | None]:
            async with self._database.read() as connection:
                before = await store.read(connection, {item.port_id for item in items})
            async with self._batch.removal({port.network_id for port in before.values()}) as work:
                owners = await _held(work.connection, before)
                return await self._delete(work, items, owners)

        return await redeciding("ports", decide)

    async def _delete(
        self, work: PortWork, items: Sequence[_Removing], owners: Mapping[str, str]
    ) -> list[MusterError | None]:
        ports = await store.read(work.connection, {item.port_id for item in items})
        outcomes: list[MusterError | None] = []
        doomed: dict[str, Port] = {}
        for item in items:
            port = ports.get(item.port_id) if item.port_id not in doomed else None
            error = _delete_refusal(work, item, port)
            if port is not None and error is None:
                doomed[port.id] = port
            outcomes.append(error)
        if doomed:
            await work.remove(list(doomed))
            await work.telling.servers_changed({owners[port_id] for port_id in doomed if port_id in owners})
        return outcomes

    async def _seen(self, connection: Connection, context: Context, port_id: str) -> Port:
        port = (await store.read(connection, [port_id])).get(port_id)
        if port is not None:
            if context.sees(port.project_id):
                return port
            network = (await network_store.read(connection, [port.network_id])).get(port.network_id)
            if network is not None and context.sees(network.project_id):
                return port
        raise network_error("PortNotFound", port_id=port_id)


async def _held(connection: Connection, port_ids: Collection[str]) -> dict[str, str]:
    """Hold these ports until the transaction ends, and the servers that have them, by port.

    Whoever changes both takes the servers' rows first. Raises Stale where another server took a port meanwhile.
    """
    known = await server_ports.read_owners(connection, port_ids)
    await server_store.lock(connection, set(known.values()))
    await picture_store.lock_ports(connection, list(port_ids))
    owners = await server_ports.read_owners(connection, port_ids)
    if not set(owners.values()) <= set(known.values()):
        raise Stale("A port has become another server's")
    return owners


def _refusal(work: PortWork, item: _Making, groups: Mapping[str, str]) -> MusterError | None:
    """Why this port is refused before anything is given out, if it is."""
    network = work.networks.get(item.draft.network_id)
    if network is None:
        return network_error("NetworkNotFound", net_id=item.draft.network_id)
    for group_id in item.draft.security_group_ids or ():
        if group_id not in groups or not (item.context.is_admin or groups[group_id] == item.draft.project_id):
            return network_error("SecurityGroupNotFound", id=group_id)
    return create_refusal(item.draft, network, item.context)


def _delete_refusal(work: PortWork, item: _Removing, port: Port | None) -> MusterError | None:
    network = work.networks.get(port.network_id) if port is not None else None
    if port is None or network is None:
        return network_error("PortNotFound", port_id=item.port_id)
    if not (item.context.sees(port.project_id) or item.context.sees(network.project_id)):
        return network_error("PortNotFound", port_id=item.port_id)
    if (port.device_owner, port.device_id) == (DHCP_OWNER, dhcp_device_id(port.network_id)):
        return network_error("ServicePortInUse", port_id=port.id, reason=f"has device owner {port.device_owner}")
    return None
