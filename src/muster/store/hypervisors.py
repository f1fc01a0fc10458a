"""Hosts as administrators see and change them. The table is that of `store.hosts`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.hypervisors import Guest, Hypervisor, HypervisorQuery, Share, Statistics
from muster.store.dialects import among, chunks
from muster.store.hosts import hosts
from muster.store.servers import servers

_COLUMNS = [hosts.c[name] for name in Hypervisor.__struct_fields__]


async def read_page(connection: AsyncConnection, query: HypervisorQuery) -> list[Hypervisor]:
    """Hosts by name, from the one behind the marker's on. One query, whatever the number of hosts.

    An unknown marker gives an empty page: see `read`.
    """
    statement = select(*_COLUMNS).order_by(hosts.c.hostname).limit(query.limit)
    if query.marker is not None:
        behind = select(hosts.c.hostname).where(hosts.c.id == query.marker).scalar_subquery()
        statement = statement.where(hosts.c.hostname > behind)
    if query.hostname_part is not None:
        statement = statement.where(hosts.c.hostname.contains(query.hostname_part, autoescape=True))
    return await _read(connection, statement)


async def read(connection: AsyncConnection, host_ids: Collection[str]) -> dict[str, Hypervisor]:
    """These hosts. One query per chunk."""
    found: dict[str, Hypervisor] = {}
    for part in chunks(sorted(host_ids)):
        for host in await _read(connection, select(*_COLUMNS).where(among(hosts.c.id, part))):
            found[host.id] = host
    return found


async def read_by_prefix(connection: AsyncConnection, prefix: str) -> Hypervisor | None:
    """The host whose id begins so. One query."""
    statement = select(*_COLUMNS).where(hosts.c.id >= prefix, hosts.c.id < prefix + "g").order_by(hosts.c.id)
    return next(iter(await _read(connection, statement.limit(1))), None)


async def read_named(connection: AsyncConnection, hostnames: Collection[str]) -> dict[str, Hypervisor]:
    """The hosts of these names, by name. One query per chunk."""
    found: dict[str, Hypervisor] = {}
    for part in chunks(sorted(hostnames)):
        for host in await _read(connection, select(*_COLUMNS).where(among(hosts.c.hostname, part))):
            found[host.hostname] = host
    return found


async def read_guests(connection: AsyncConnection, host_ids: Sequence[str]) -> dict[str, list[Guest]]:
    """The servers on these hosts, oldest first. One query per chunk."""
    found: dict[str, list[Guest]] = {}
    for part in chunks(host_ids):
        where = among(servers.c.host_id, part) & servers.c.deleted_at.is_(None)
        statement = select(servers.c.host_id, servers.c.id, servers.c.name).where(where)
        for host_id, server_id, name in await connection.execute(
            statement.order_by(servers.c.created_at, servers.c.id)
        ):
            found.setdefault(host_id, []).append(Guest(server_id, name))
    return found


async def read_shares(connection: AsyncConnection, host_id: str) -> list[Share]:
    """What each project's servers take of a host, by project. One query."""
    columns = servers.c.vcpus, servers.c.ram_mib, servers.c.disk_gib
    statement = (
        select(servers.c.project_id, *map(func.sum, columns))
        .where(servers.c.host_id == host_id, servers.c.deleted_at.is_(None))
        .group_by(servers.c.project_id)
        .order_by(servers.c.project_id)
    )
    return [Share(row[0], *map(int, row[1:])) for row in await connection.execute(statement)]


async def read_statistics(connection: AsyncConnection) -> Statistics:
    """All enabled hosts together. One query."""
    statement = select(
        func.count(),
        *(
            func.coalesce(func.sum(column), 0)
            for column in (
                hosts.c.vcpus,
                hosts.c.ram_mib,
                hosts.c.disk_gib,
                hosts.c.vcpus_used,
                hosts.c.reserved_ram_mib + hosts.c.ram_used_mib,
                hosts.c.disk_used_gib,
                hosts.c.servers_used,
            )
        ),
    ).where(hosts.c.disabled.is_(False))
    row = (await connection.execute(statement)).one()
    return Statistics(**dict(zip(Statistics.__struct_fields__, map(int, row), strict=True)))


async def write(connection: AsyncConnection, host_id: str, values: Mapping[str, Any]) -> bool:
    """Change whether a host is enabled, why not, whether it is forced down; False if it is gone. One statement."""
    statement = update(hosts).where(hosts.c.id == host_id).values(**values)
    return (await connection.execute(statement)).rowcount == 1


async def remove(connection: AsyncConnection, host_id: str) -> bool:
    """Forget a host; False if it holds servers, or is gone. Two statements.

    Rows of deleted servers forget where these were.
    """
    past = servers.c.host_id == host_id, servers.c.deleted_at.is_not(None)
    await connection.execute(update(servers).where(*past).values(host_id=None))
    empty = hosts.c.id == host_id, hosts.c.servers_used == 0
    return (await connection.execute(delete(hosts).where(*empty))).rowcount == 1


async def _read(connection: AsyncConnection, statement: Select[Any]) -> list[Hypervisor]:
    return [Hypervisor(**row._mapping) for row in await connection.execute(statement)]
