"""Which projects have network quotas of their own."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.store.dialects import among
from muster.store.quotas import quotas


async def read_projects(connection: AsyncConnection, resources: Collection[str]) -> list[str]:
    """The projects with a limit of their own for any of these resources, sorted. One query."""
    statement = select(quotas.c.project_id).where(among(quotas.c.resource, resources)).distinct()
    return list((await connection.execute(statement.order_by(quotas.c.project_id))).scalars())
