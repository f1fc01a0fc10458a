"""What of the hosts the network API shows: agents and availability zones."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.agents import HostSight
from muster.store.hosts import hosts


async def read_hosts(connection: AsyncConnection) -> list[HostSight]:
    """All hosts, by name. One query."""
    columns = (
        hosts.c.id,
        hosts.c.hostname,
        hosts.c.availability_zone,
        hosts.c.firewall,
        hosts.c.forced_down,
        hosts.c.created_at,
        hosts.c.last_seen_at,
    )
    rows = await connection.execute(select(*columns).order_by(hosts.c.hostname))
    return [HostSight(**row._mapping) for row in rows]


async def read_zones(connection: AsyncConnection) -> list[str]:
    """The names of the availability zones that have a host, sorted. One query."""
    statement = select(hosts.c.availability_zone).distinct().order_by(hosts.c.availability_zone)
    return list((await connection.execute(statement)).scalars())
