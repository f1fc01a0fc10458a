"""What each project has in use of what quotas limit, counted as it changes, never by counting rows."""

from collections.abc import Collection, Mapping

from sqlalchemy import BigInteger, Column, String, Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.store.columns import reference
from muster.store.dialects import upsert
from muster.store.engine import metadata

usages = Table(
    "usages",
    metadata,
    reference("project_id", primary_key=True),
    Column("resource", String(64), primary_key=True),
    Column("in_use", BigInteger, nullable=False, default=0),
)


async def add(connection: AsyncConnection, deltas: Mapping[tuple[str, str], int]) -> Mapping[tuple[str, str], int]:
    """Change what is in use, by (project, resource); returns the new figures of what was changed.

    Two transactions that change the same figure go one after the other. One statement per figure.
    """
    after: dict[tuple[str, str], int] = {}
    for (project_id, resource), delta in sorted(deltas.items()):
        statement = upsert(connection, usages).values(project_id=project_id, resource=resource, in_use=delta)
        statement = statement.on_conflict_do_update(
            index_elements=["project_id", "resource"], set_={"in_use": usages.c.in_use + statement.excluded.in_use}
        ).returning(usages.c.in_use)
        after[project_id, resource] = (await connection.execute(statement)).scalar_one()
    return after


async def read(connection: AsyncConnection, project_ids: Collection[str]) -> Mapping[tuple[str, str], int]:
    """What these projects have in use: (project, resource) to number. One query."""
    statement = select(usages).where(usages.c.project_id.in_(project_ids))
    return {(project_id, resource): in_use for project_id, resource, in_use in await connection.execute(statement)}
