"""Groups of users, and who is in them. (`groups` is a word of SQL's own, hence the table's name.)"""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Column, ForeignKey, String, Table, UniqueConstraint, delete, select, update
from sqlalchemy import insert as insert_into
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.attribute_filters import Filter, Listing, Page
from muster.domain.groups import Group
from muster.domain.users import User
from muster.store import users as user_store
from muster.store.attribute_filters import conditions, read_page
from muster.store.columns import document, identity_column, reference, text
from muster.store.dialects import among, chunks, upsert
from muster.store.engine import metadata

user_groups = Table(
    "user_groups",
    metadata,
    identity_column(),
    reference("domain_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(255), nullable=False),
    text("description", default=""),
    document("extra"),
    UniqueConstraint("domain_id", "name"),
)

group_members = Table(
    "group_members",
    metadata,
    reference("group_id", ForeignKey("user_groups.id", ondelete="CASCADE"), primary_key=True),
    reference("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True),
)


def _group(row: Any) -> Group:
    return Group(id=row.id, name=row.name, domain_id=row.domain_id, description=row.description, extra=row.extra)


def _values(group: Group) -> dict[str, Any]:
    return {
        "id": group.id,
        "name": group.name,
        "domain_id": group.domain_id,
        "description": group.description,
        "extra": dict(group.extra),
    }


async def insert(connection: AsyncConnection, made: Sequence[Group]) -> None:
    """Write new groups. One statement. Raises Violation for a name that is taken or a domain that is gone."""
    await connection.execute(insert_into(user_groups), [_values(group) for group in made])


async def save(connection: AsyncConnection, group: Group) -> None:
    """Write a group that is there over. One statement."""
    await connection.execute(update(user_groups).where(user_groups.c.id == group.id).values(_values(group)))


async def read(connection: AsyncConnection, ids: Collection[str], *, lock: bool = False) -> dict[str, Group]:
    """Groups by id; those that do not exist are left out. `lock` for changing them. One query a chunk."""
    found: dict[str, Group] = {}
    for part in chunks(sorted(ids)):
        statement = select(user_groups).where(among(user_groups.c.id, part))
        if lock:
            statement = statement.with_for_update()
        found.update((row.id, _group(row)) for row in await connection.execute(statement))
    return found


async def read_listing(
    connection: AsyncConnection, filters: Sequence[Filter], page: Page, user_id: str | None = None
) -> Listing[Group]:
    """A page of groups, or of those that a user is in. One query."""
    where = conditions(user_groups, filters)
    if user_id is not None:
        where.append(user_groups.c.id.in_(_groups_of([user_id])))
    return await read_page(connection, user_groups, where, page, _group)


async def read_members(
    connection: AsyncConnection, group_id: str, filters: Sequence[Filter], page: Page
) -> Listing[User]:
    """A page of a group's users. One query."""
    users = user_store.users
    members = select(group_members.c.user_id).where(group_members.c.group_id == group_id)
    where = [users.c.id.in_(members), *conditions(users, filters)]
    return await read_page(connection, users, where, page, user_store.build)


async def read_member_ids(connection: AsyncConnection, group_ids: Collection[str]) -> dict[str, list[str]]:
    """The users of each group. One query a chunk."""
    members: dict[str, list[str]] = {group_id: [] for group_id in group_ids}
    for part in chunks(sorted(group_ids)):
        statement = select(group_members).where(among(group_members.c.group_id, part)).order_by(group_members.c.user_id)
        for group_id, user_id in await connection.execute(statement):
            members[group_id].append(user_id)
    return members


async def read_group_ids(connection: AsyncConnection, user_id: str) -> list[str]:
    """The groups that a user is in. One query."""
    return list((await connection.execute(_groups_of([user_id]))).scalars())


def _groups_of(user_ids: Sequence[str]) -> Any:
    return select(group_members.c.group_id).where(among(group_members.c.user_id, user_ids))


async def add_member(connection: AsyncConnection, group_id: str, user_id: str) -> None:
    """Put a user into a group; nothing changes if it is there. One statement. Raises Violation if one is gone."""
    statement = upsert(connection, group_members).values(group_id=group_id, user_id=user_id)
    await connection.execute(statement.on_conflict_do_nothing())


async def has_member(connection: AsyncConnection, group_id: str, user_id: str) -> bool:
    """Whether a user is in a group. One query."""
    where = (group_members.c.group_id == group_id) & (group_members.c.user_id == user_id)
    return (await connection.execute(select(group_members).where(where))).first() is not None


async def remove_member(connection: AsyncConnection, group_id: str, user_id: str) -> bool:
    """Take a user out of a group; whether it was in. One statement."""
    where = (group_members.c.group_id == group_id) & (group_members.c.user_id == user_id)
    return (await connection.execute(delete(group_members).where(where))).rowcount > 0


async def remove(connection: AsyncConnection, group_id: str) -> bool:
    """Delete a group with its memberships and assignments; whether it was there. One statement."""
    return (await connection.execute(delete(user_groups).where(user_groups.c.id == group_id))).rowcount > 0
