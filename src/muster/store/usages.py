"""What each project has in use of what quotas limit, counted as it changes, never by counting rows."""

from collections.abc import Collection, Mapping

from sqlalchemy import BigInteger, Column, String, Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.store.columns import reference
from muster.store.dialects import among, chunks, upsert
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

    Two transactions that change the same figure go one after the other, so figures are taken in one order by everybody.
    One statement per chunk.
    """
    after: dict[tuple[str, str], int] = {}
    for part in chunks(sorted(deltas)):
        rows = [{"project_id": key[0], "resource": key[1], "in_use": deltas[key]} for key in part]
        statement = upsert(connection, usages).values(rows)
        statement = statement.on_conflict_do_update(
            index_elements=["project_id", "resource"], set_={"in_use": usages.c.in_use + statement.excluded.in_use}
        ).returning(usages)
        for project_id, resource, in_use in await connection.execute(statement):
            after[project_id, resource] = in_use
    return after


async def read(connection: AsyncConnection, project_ids: Collection[str]) -> Mapping[tuple[str, str], int]:
    """What these projects have in use: (project, resource) to number. One query."""
    statement = select(usages).where(among(usages.c.project_id, project_ids))
    return {(project_id, resource): in_use for project_id, resource, in_use in await connection.execute(statement)}
