"""Servers of a period, gone or not, for accounts."""

from collections.abc import Sequence

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.tenant_usages import Period, UsedServer
from muster.store.servers import servers

_COLUMNS = [
    servers.c[name]
    for name in (
        "id",
        "project_id",
        "name",
        "flavor",
        "vcpus",
        "ram_mib",
        "disk_gib",
        "vm_state",
        "launched_at",
        "terminated_at",
    )
]


async def read(
    connection: AsyncConnection,
    period: Period,
    *,
    project_id: str | None = None,
    limit: int | None = None,
    after: str | None = None,
) -> Sequence[UsedServer]:
    """Servers that were there in a period, of one project or all, by id from the one behind `after` on. One query."""
    statement = select(*_COLUMNS).where(
        servers.c.launched_at <= period.stop,
        or_(servers.c.terminated_at.is_(None), servers.c.terminated_at > period.start),
    )
    if project_id is not None:
        statement = statement.where(servers.c.project_id == project_id)
    if after is not None:
        statement = statement.where(servers.c.id > after)
    found = []
    for row in await connection.execute(statement.order_by(servers.c.id).limit(limit)):
        values = dict(row._mapping)
        flavor_name = values.pop("flavor").get("name", "")
        found.append(UsedServer(**values, flavor_name=flavor_name))
    return found


async def exists(connection: AsyncConnection, server_id: str) -> bool:
    """Whether there is or was such a server. One query."""
    return (await connection.execute(select(servers.c.id).where(servers.c.id == server_id))).first() is not None
