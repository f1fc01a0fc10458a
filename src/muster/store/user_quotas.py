"""Limits of single users within a project, and what those who have one have in use.

A row is there while a user has a limit. `in_use` is counted (`count`) when the row comes and changed with the project's
figure from then on; of what is not counted by user (`domain.quotas.COUNTED_BY_USER`) it stays 0. Whoever changes rows
holds the project's figures (`store.usages`), so that two who change the same ones wait for each other there.
"""

from collections.abc import Collection, Mapping
from typing import cast

from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import BigInteger, Column, String, Table, case, delete, func, literal, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.store.columns import reference
from muster.store.dialects import add_to_rows, among, update_rows, upsert
from muster.store.engine import metadata
from muster.store.quotas import quotas
from muster.store.server_groups import server_groups
from muster.store.servers import servers

user_quotas = Table(
    "user_quotas",
    metadata,
    reference("project_id", primary_key=True),
    reference("user_id", primary_key=True),
    Column("resource", String(64), primary_key=True),
    Column("hard_limit", BigInteger, nullable=False),
    Column("in_use", BigInteger, nullable=False, default=0),
)

UserKey = tuple[str, str, str]  # project, user, resource

_KEYS = ("project_id", "user_id", "resource")


class UserFigure(Struct, frozen=True):
    """A user's limit, -1 for none, and what the user has in use."""

    hard_limit: int
    in_use: int


async def read(connection: AsyncConnection, project_id: str) -> dict[UserKey, UserFigure]:
    """The limits of all users of a project who have some. One query."""
    found = await connection.execute(select(user_quotas).where(user_quotas.c.project_id == project_id))
    return {(row.project_id, row.user_id, row.resource): UserFigure(row.hard_limit, row.in_use) for row in found}


async def read_with_projects(
    connection: AsyncConnection, project_ids: Collection[str], user_ids: Collection[str]
) -> tuple[dict[tuple[str, str], int], dict[UserKey, UserFigure]]:
    """The limits that these projects have of their own, and those of these users in them. One query."""
    of_projects = select(
        quotas.c.project_id, literal("").label("user_id"), quotas.c.resource, quotas.c.hard_limit, literal(0)
    ).where(among(quotas.c.project_id, project_ids))
    of_users = select(user_quotas).where(
        among(user_quotas.c.project_id, project_ids), among(user_quotas.c.user_id, user_ids)
    )
    limits: dict[tuple[str, str], int] = {}
    figures: dict[UserKey, UserFigure] = {}
    found = await connection.execute(union_all(of_projects, of_users))
    for project_id, user_id, resource, limit, in_use in found:
        if user_id:
            figures[project_id, user_id, resource] = UserFigure(limit, in_use)
        else:
            limits[project_id, resource] = limit
    return limits, figures


async def read_projects(connection: AsyncConnection) -> list[str]:
    """The projects of which users have limits, sorted. One query."""
    statement = select(user_quotas.c.project_id).distinct().order_by(user_quotas.c.project_id)
    return list((await connection.execute(statement)).scalars())


async def read_holders(
    connection: AsyncConnection, project_ids: Collection[str], user_ids: Collection[str]
) -> list[tuple[str, str | None]]:
    """Projects of these in which users have limits, as (project, None), and others in which these do: (project, user).

    Sorted by project. One query, which goes over all limits of users.
    """
    columns = user_quotas.c
    of_project = among(columns.project_id, project_ids)
    user_id = case((of_project, None), else_=columns.user_id).label("user_id")
    statement = select(columns.project_id, user_id).where(of_project | among(columns.user_id, user_ids)).distinct()
    return [(row.project_id, row.user_id) for row in await connection.execute(statement.order_by(columns.project_id))]


async def write(connection: AsyncConnection, project_id: str, user_id: str, figures: Mapping[str, UserFigure]) -> None:
    """Set some of a user's limits in a project, with what is in use of them. One statement."""
    rows = [
        {"project_id": project_id, "user_id": user_id, "resource": name, **asdict(figure)}
        for name, figure in figures.items()
    ]
    statement = upsert(connection, user_quotas)
    new = {name: statement.excluded[name] for name in UserFigure.__struct_fields__}
    statement = statement.on_conflict_do_update(index_elements=_KEYS, set_=new)
    if rows:
        await connection.execute(statement, rows)


async def remove(connection: AsyncConnection, project_id: str, user_id: str | None = None) -> None:
    """A user, or with None no user of the project, has limits any more. One statement."""
    statement = delete(user_quotas).where(user_quotas.c.project_id == project_id)
    if user_id is not None:
        statement = statement.where(user_quotas.c.user_id == user_id)
    await connection.execute(statement)


async def add(connection: AsyncConnection, deltas: Mapping[UserKey, int]) -> dict[UserKey, UserFigure]:
    """Change what users have in use, where they have a limit; their limits and new figures. One statement."""
    rows = [(*key, deltas[key]) for key in sorted(deltas)]
    found = await add_to_rows(
        connection, user_quotas, _KEYS, "in_use", rows, returning=(*_KEYS, "hard_limit", "in_use")
    )
    return {cast("UserKey", tuple(row[:3])): UserFigure(row[3], row[4]) for row in found}


async def count(connection: AsyncConnection, project_id: str, user_id: str | None = None) -> dict[tuple[str, str], int]:
    """What there is of each user in a project, or of one: (user, resource) to number, what there is none of left out.

    Two queries that go over the project's servers and groups: for administrators, not for who makes servers.
    """
    made = servers.c.project_id == project_id, servers.c.deleted_at.is_(None)
    grouped = server_groups.c.project_id == project_id
    size = func.count(), func.sum(servers.c.vcpus), func.sum(servers.c.ram_mib)
    of_servers = select(servers.c.user_id, *size).where(*made).group_by(servers.c.user_id)
    of_groups = select(server_groups.c.user_id, func.count()).where(grouped).group_by(server_groups.c.user_id)
    if user_id is not None:
        of_servers = of_servers.where(servers.c.user_id == user_id)
        of_groups = of_groups.where(server_groups.c.user_id == user_id)
    found: dict[tuple[str, str], int] = {}
    for owner, instances, cores, ram in await connection.execute(of_servers):
        found |= {(owner, "instances"): instances, (owner, "cores"): cores, (owner, "ram"): ram}
    found |= {(owner, "server_groups"): number for owner, number in await connection.execute(of_groups)}
    return found


async def write_in_use(connection: AsyncConnection, in_use: Mapping[UserKey, int]) -> None:
    """Set what users who have limits have in use. One statement."""
    await update_rows(connection, user_quotas, _KEYS, ["in_use"], [(*key, number) for key, number in in_use.items()])
