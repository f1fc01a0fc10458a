"""What the requests of a batch name, read together: as many queries as there are kinds of things, not requests."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import exists, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.server_lookups import Named, NetworkSeen, Picture, PortSeen
from muster.store.addresses import addresses
from muster.store.dialects import among, chunks
from muster.store.hosts import hosts
from muster.store.keypairs import read_named
from muster.store.networks import networks
from muster.store.ports import ports
from muster.store.security_groups import security_groups
from muster.store.subnets import subnets

_NETWORK = (
    networks.c.id,
    networks.c.project_id,
    networks.c.shared,
    networks.c.router_external,
    networks.c.port_security_enabled,
    exists().where(subnets.c.network_id == networks.c.id).label("has_subnets"),
)


async def read_picture(connection: AsyncConnection, asked: Sequence[Named]) -> Picture:
    """All that these requests name, as far as it exists. At most eight queries, none for what nobody names."""
    nics = [nic for named in asked for nic in named.nics]
    found_ports = await _ports(connection, {nic.port_id for nic in nics if nic.port_id})
    network_ids = {nic.network_id for nic in nics if nic.network_id}
    network_ids |= {port.network_id for port in found_ports.values()}
    keys = {(named.context.user_id, named.key_name) for named in asked if named.key_name}
    projects = {named.context.project_id or "" for named in asked}
    usable = await _usable(connection, projects) if any(named.any_network for named in asked) else []
    return Picture(
        networks={network.id: network for network in usable} | await _networks(connection, network_ids),
        usable=usable,
        ports=found_ports,
        holders=await _holders(connection, {(n.network_id, n.fixed_ip) for n in nics if n.network_id and n.fixed_ip}),
        groups=await read_groups(connection, projects, {name for named in asked for name in named.groups}),
        keys={name: key.public_key for name, key in (await read_named(connection, keys)).items()},
        zones=await _zones(connection) if any(named.zone for named in asked) else frozenset(),
        hostnames=await _hostnames(connection, {named.hostname for named in asked if named.hostname}),
    )


async def read_groups(
    connection: AsyncConnection, project_ids: Collection[str], names: Collection[str]
) -> dict[str, list[tuple[str, str]]]:
    """The groups of these projects with one of these ids or names: project to (id, name). One query."""
    found: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    if names:
        columns = security_groups.c
        statement = select(columns.project_id, columns.id, columns.name).where(
            among(columns.project_id, project_ids), or_(among(columns.id, names), among(columns.name, names))
        )
        for project_id, group_id, name in await connection.execute(statement):
            found[project_id].append((group_id, name))
    return dict(found)


async def _networks(connection: AsyncConnection, network_ids: Collection[str]) -> dict[str, NetworkSeen]:
    found: dict[str, NetworkSeen] = {}
    for part in chunks(sorted(network_ids)):
        for row in await connection.execute(select(*_NETWORK).where(among(networks.c.id, part))):
            found[row.id] = _seen(row)
    return found


async def _usable(connection: AsyncConnection, project_ids: Collection[str]) -> list[NetworkSeen]:
    mine = or_(networks.c.shared, among(networks.c.project_id, project_ids))
    statement = select(*_NETWORK).where(networks.c.router_external.is_(False), mine)
    return [_seen(row) for row in await connection.execute(statement.order_by(networks.c.created_at, networks.c.id))]


async def _ports(connection: AsyncConnection, port_ids: Collection[str]) -> dict[str, PortSeen]:
    found: dict[str, PortSeen] = {}
    columns = ports.c
    has_address = exists().where(addresses.c.port_id == columns.id).label("has_address")
    for part in chunks(sorted(port_ids)):
        statement = select(columns.id, columns.project_id, columns.network_id, columns.device_id, has_address)
        for row in await connection.execute(statement.where(among(columns.id, part))):
            found[row.id] = PortSeen(**row._mapping)
    return found


async def _holders(connection: AsyncConnection, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    for part in chunks(sorted(wanted), 500):
        statement = (
            select(addresses.c.network_id, addresses.c.ip_address, ports.c.device_id)
            .join(ports, ports.c.id == addresses.c.port_id)
            .where(tuple_(addresses.c.network_id, addresses.c.ip_address).in_(part), ports.c.device_id != "")
        )
        for network_id, ip_address, device_id in await connection.execute(statement):
            found[network_id, ip_address] = device_id
    return found


async def _zones(connection: AsyncConnection) -> frozenset[str]:
    statement = select(hosts.c.availability_zone).where(hosts.c.disabled.is_(False)).distinct()
    return frozenset((await connection.execute(statement)).scalars())


async def _hostnames(connection: AsyncConnection, wanted: Collection[str]) -> frozenset[str]:
    if not wanted:
        return frozenset()
    statement = select(hosts.c.hostname).where(among(hosts.c.hostname, wanted))
    return frozenset((await connection.execute(statement)).scalars())


def _seen(row: Any) -> NetworkSeen:
    return NetworkSeen(**{**row._mapping, "has_subnets": bool(row.has_subnets)})
