"""Quotas: limits that differ from the default.

`resource` is the name that its API uses (`instances`, `cores`, `ram`; `network`, `port`, ...). A limit of -1 is none.
"""

from collections.abc import Collection, Mapping

from sqlalchemy import BigInteger, Column, String, Table, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.store.columns import reference
from muster.store.dialects import among, upsert
from muster.store.engine import metadata

quotas = Table(
    "quotas",
    metadata,
    reference("project_id", primary_key=True),
    Column("resource", String(64), primary_key=True),
    Column("hard_limit", BigInteger, nullable=False),
)


async def read_limits(connection: AsyncConnection, project_ids: Collection[str]) -> Mapping[tuple[str, str], int]:
    """The limits that differ from the default: (project, resource) to limit. One query."""
    statement = select(quotas).where(among(quotas.c.project_id, project_ids))
    return {(project_id, resource): limit for project_id, resource, limit in await connection.execute(statement)}


async def set_limits(connection: AsyncConnection, project_id: str, limits: Mapping[str, int]) -> None:
    """Set some of a project's limits. One statement."""
    statement = upsert(connection, quotas)
    statement = statement.on_conflict_do_update(
        index_elements=["project_id", "resource"], set_={"hard_limit": statement.excluded.hard_limit}
    )
    rows = [{"project_id": project_id, "resource": name, "hard_limit": limit} for name, limit in limits.items()]
    if rows:
        await connection.execute(statement, rows)


async def delete_limits(
    connection: AsyncConnection, project_ids: Collection[str], resources: Collection[str] | None = None
) -> None:
    """These projects' limits of these resources, or with None of all, are the defaults again. One statement."""
    statement = delete(quotas).where(among(quotas.c.project_id, project_ids))
    if resources is not None:
        statement = statement.where(among(quotas.c.resource, resources))
    await connection.execute(statement)
