"""What each project has in use of what quotas limit, counted as it changes, never by counting rows.

`by_user` says that users of the project have limits of their own (`store.user_quotas`), so that whoever changes the
figure changes theirs as well. It is set with the row held, so that nobody who counts overlooks it.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from msgspec import Struct
from sqlalchemy import BigInteger, Boolean, Column, String, Table, select
from sqlalchemy import text as sql
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
    Column("by_user", Boolean, nullable=False, server_default=sql("false")),
)


class Figures(Struct, frozen=True):
    """What is in use by (project, resource), and which of the projects have users with limits of their own."""

    in_use: dict[tuple[str, str], int]
    by_user: set[str]


async def add(connection: AsyncConnection, deltas: Mapping[tuple[str, str], int]) -> Figures:
    """Change what is in use, by (project, resource); returns the new figures of what was changed.

    Two transactions that change the same figure go one after the other, so figures are taken in one order by everybody.
    One statement per chunk.
    """
    after = Figures({}, set())
    for part in chunks(sorted(deltas)):
        rows = [{"project_id": key[0], "resource": key[1], "in_use": deltas[key]} for key in part]
        statement = upsert(connection, usages).values(rows)
        statement = statement.on_conflict_do_update(
            index_elements=["project_id", "resource"], set_={"in_use": usages.c.in_use + statement.excluded.in_use}
        ).returning(usages)
        _note(after, await connection.execute(statement))
    return after


async def read(connection: AsyncConnection, project_ids: Collection[str]) -> Mapping[tuple[str, str], int]:
    """What these projects have in use: (project, resource) to number. One query."""
    return (await read_figures(connection, project_ids)).in_use


async def read_figures(connection: AsyncConnection, project_ids: Collection[str]) -> Figures:
    """What these projects have in use, and which of them have users with limits. One query."""
    found = Figures({}, set())
    _note(found, await connection.execute(select(usages).where(among(usages.c.project_id, project_ids))))
    return found


async def hold(connection: AsyncConnection, project_id: str, resources: Collection[str], *, by_user: bool) -> None:
    """Hold these figures of a project until the transaction ends, and say whether users of it have limits. One
    statement; figures that there are none of are made."""
    rows = [{"project_id": project_id, "resource": name, "in_use": 0, "by_user": by_user} for name in sorted(resources)]
    statement = upsert(connection, usages).values(rows)
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["project_id", "resource"], set_={"by_user": statement.excluded.by_user}
        )
    )


def _note(figures: Figures, rows: Iterable[Any]) -> None:
    for project_id, resource, in_use, by_user in rows:
        figures.in_use[project_id, resource] = in_use
        if by_user:
            figures.by_user.add(project_id)
