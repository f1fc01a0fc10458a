"""Server groups. `generation` is raised by each placement of a member, so that two placers cannot both be the first."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Table, delete, func, insert, literal, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.base.errors import Stale
from muster.domain.placement import GroupRule
from muster.domain.server_groups import ServerGroup
from muster.store.columns import counter, document, identity_column, moment, reference, text
from muster.store.dialects import among, chunks
from muster.store.engine import metadata
from muster.store.servers import servers

_MAX_PER_HOST = "max_server_per_host"

server_groups = Table(
    "server_groups",
    metadata,
    identity_column(),
    reference("project_id", nullable=False, index=True),
    reference("user_id", nullable=False),
    text("name"),
    text("policy"),  # affinity, anti-affinity, soft-affinity, soft-anti-affinity
    document("rules"),  # {"max_server_per_host": n}
    counter("generation"),
    moment("created_at"),
)

_LIVE = servers.c.deleted_at.is_(None)


async def insert_group(connection: AsyncConnection, group: ServerGroup) -> None:
    """Write a new group. One statement."""
    row = {
        "id": group.id,
        "project_id": group.project_id,
        "user_id": group.user_id,
        "name": group.name,
        "policy": group.policy,
        "rules": {} if group.max_per_host is None else {_MAX_PER_HOST: group.max_per_host},
        "created_at": group.created_at,
    }
    await connection.execute(insert(server_groups).values(**row))


async def read(connection: AsyncConnection, group_ids: Collection[str]) -> dict[str, ServerGroup]:
    """These groups without their members. One query per chunk."""
    found: dict[str, ServerGroup] = {}
    for part in chunks(sorted(group_ids)):
        for row in await connection.execute(select(server_groups).where(among(server_groups.c.id, part))):
            found[row.id] = _group(row)
    return found


async def read_page(
    connection: AsyncConnection,
    project_id: str | None,
    *,
    limit: int,
    offset: int = 0,
    after: ServerGroup | None = None,
) -> list[ServerGroup]:
    """A project's groups (None: everybody's), oldest first, without their members: those behind one of them, or those
    behind the first `offset`. One query."""
    order = server_groups.c.created_at, server_groups.c.id
    statement = select(server_groups).order_by(*order).limit(limit)
    if project_id is not None:
        statement = statement.where(server_groups.c.project_id == project_id)
    if after is None:
        statement = statement.offset(offset)
    else:
        statement = statement.where(tuple_(*order) > tuple_(literal(after.created_at), literal(after.id)))
    return [_group(row) for row in await connection.execute(statement)]


async def with_members(connection: AsyncConnection, groups: Sequence[ServerGroup]) -> list[ServerGroup]:
    """The groups with their members, in the order in which these came. One query per chunk."""
    found: dict[str, list[str]] = {group.id: [] for group in groups}
    for part in chunks(sorted(found)):
        where = among(servers.c.server_group_id, part) & _LIVE
        statement = select(servers.c.server_group_id, servers.c.id).where(where)
        for group_id, server_id in await connection.execute(statement.order_by(servers.c.created_at, servers.c.id)):
            found[group_id].append(server_id)
    return [replace(group, members=tuple(found[group.id])) for group in groups]


async def count_members(connection: AsyncConnection, group_ids: Collection[str]) -> dict[str, dict[str, int]]:
    """How many servers each of these groups has, by user; one that does not exist is left out. One query per chunk."""
    counts: dict[str, dict[str, int]] = {}
    for part in chunks(sorted(group_ids)):
        statement = (
            select(server_groups.c.id, servers.c.user_id, func.count(servers.c.id))
            .join(servers, (servers.c.server_group_id == server_groups.c.id) & _LIVE, isouter=True)
            .where(among(server_groups.c.id, part))
            .group_by(server_groups.c.id, servers.c.user_id)
        )
        for group_id, user_id, count in await connection.execute(statement):
            members = counts.setdefault(group_id, {})
            if user_id is not None:
                members[user_id] = count
    return counts


async def read_rules(connection: AsyncConnection, group_ids: Collection[str]) -> dict[str, GroupRule]:
    """The policies of these groups, with how many members each host has. Two queries per chunk."""
    rules: dict[str, GroupRule] = {}
    for part in chunks(sorted(group_ids)):
        for row in await connection.execute(select(server_groups).where(among(server_groups.c.id, part))):
            most = int(row.rules.get(_MAX_PER_HOST, 1))
            rules[row.id] = GroupRule(row.id, row.policy, {}, most, row.generation)
        statement = (
            select(servers.c.server_group_id, servers.c.host_id, func.count())
            .where(among(servers.c.server_group_id, part), servers.c.host_id.is_not(None), _LIVE)
            .group_by(servers.c.server_group_id, servers.c.host_id)
        )
        for group_id, host_id, count in await connection.execute(statement):
            if group_id in rules:
                rules[group_id].members[host_id] = count
    return rules


async def raise_generations(connection: AsyncConnection, rules: Iterable[GroupRule]) -> None:
    """Note that members of these groups were placed. One conditional statement per group.

    Raises Stale if another placed members of one of them since its rule was read, or if it is gone.
    """
    for rule in sorted(rules, key=lambda one: one.id):
        where = (server_groups.c.id == rule.id) & (server_groups.c.generation == rule.generation)
        statement = update(server_groups).where(where).values(generation=rule.generation + 1)
        if (await connection.execute(statement)).rowcount != 1:
            raise Stale(f"Members of server group {rule.id} were placed meanwhile")


async def remove(connection: AsyncConnection, group_id: str) -> bool:
    """Delete a group, whose servers are in none from then on; False if there is none. Two statements."""
    if (await connection.execute(delete(server_groups).where(server_groups.c.id == group_id))).rowcount != 1:
        return False
    members = update(servers).where(servers.c.server_group_id == group_id)
    await connection.execute(members.values(server_group_id=None))
    return True


def _group(row: Any) -> ServerGroup:
    return ServerGroup(
        id=row.id,
        project_id=row.project_id,
        user_id=row.user_id,
        name=row.name,
        policy=row.policy,
        created_at=row.created_at,
        max_per_host=row.rules.get(_MAX_PER_HOST),
    )
