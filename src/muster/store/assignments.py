"""Role assignments as granted. Foreign keys take them away with whatever they are about.

`key` writes actor, target, role and inheritance in one text, which makes an assignment unique although columns of it
are null.
"""

from collections.abc import Collection, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import Column, ColumnElement, ForeignKey, String, Table, delete, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.assignments import Actor, ActorKind, Grant, Target, TargetKind
from muster.store.columns import flag, reference
from muster.store.dialects import among, upsert
from muster.store.engine import metadata
from muster.store.groups import group_members

assignments = Table(
    "assignments",
    metadata,
    Column("key", String(255), primary_key=True),
    reference("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=True, index=True),
    reference("group_id", ForeignKey("user_groups.id", ondelete="CASCADE"), nullable=True, index=True),
    Column("target_kind", String(16), nullable=False),
    # The project or the domain (which is a project too); null for the system.
    reference("target_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=True, index=True),
    reference("role_id", ForeignKey("roles.id", ondelete="CASCADE"), nullable=False, index=True),
    flag("inherited"),
)


class AssignmentFilter(Struct, frozen=True, kw_only=True):
    """Which assignments to read; None does not narrow.

    `user_id` takes those of the user's groups in if `with_groups`. `target_ids` takes in, if `with_inherited`, those
    inherited from `above_ids`.
    """

    user_id: str | None = None
    with_groups: bool = False
    group_id: str | None = None
    role_id: str | None = None
    target_kind: TargetKind | None = None
    target_ids: Sequence[str] | None = None
    above_ids: Sequence[str] = ()
    inherited: bool | None = None


def _key(grant: Grant) -> str:
    actor = f"{grant.actor.kind.value}/{grant.actor.id}"
    target = f"{grant.target.kind.value}/{grant.target.id}"
    return f"{actor}/{target}/{grant.role_id}/{int(grant.inherited)}"


def _grant(row: Any) -> Grant:
    actor = Actor(ActorKind.GROUP, row.group_id) if row.user_id is None else Actor(ActorKind.USER, row.user_id)
    target = Target(TargetKind(row.target_kind), row.target_id or "")
    return Grant(actor=actor, target=target, role_id=row.role_id, inherited=row.inherited)


async def insert(connection: AsyncConnection, grants: Sequence[Grant]) -> None:
    """Write assignments; nothing changes for those that are there. One statement.

    Raises Violation (`foreign_key`) if somebody or something they are about is gone.
    """
    rows = [
        {
            "key": _key(grant),
            "user_id": grant.actor.id if grant.actor.kind is ActorKind.USER else None,
            "group_id": grant.actor.id if grant.actor.kind is ActorKind.GROUP else None,
            "target_kind": grant.target.kind.value,
            "target_id": grant.target.id or None,
            "role_id": grant.role_id,
            "inherited": grant.inherited,
        }
        for grant in grants
    ]
    await connection.execute(upsert(connection, assignments).on_conflict_do_nothing(), rows)


async def exists(connection: AsyncConnection, grant: Grant) -> bool:
    """Whether just this was granted. One query."""
    statement = select(assignments.c.key).where(assignments.c.key == _key(grant))
    return (await connection.execute(statement)).first() is not None


async def remove(connection: AsyncConnection, grant: Grant) -> bool:
    """Take an assignment away; whether it was there. One statement."""
    return (await connection.execute(delete(assignments).where(assignments.c.key == _key(grant)))).rowcount > 0


async def read(connection: AsyncConnection, wanted: AssignmentFilter) -> list[Grant]:
    """The assignments that match, as granted. One query."""
    statement = select(assignments).where(*_conditions(wanted)).order_by(assignments.c.key)
    return [_grant(row) for row in await connection.execute(statement)]


def _conditions(wanted: AssignmentFilter) -> list[ColumnElement[bool]]:
    columns = assignments.c
    where: list[ColumnElement[bool]] = []
    if wanted.user_id is not None:
        where.append(_is_actor(wanted.user_id, wanted.with_groups))
    if wanted.group_id is not None:
        where.append(columns.group_id == wanted.group_id)
    if wanted.role_id is not None:
        where.append(columns.role_id == wanted.role_id)
    if wanted.target_kind is not None:
        where.append(columns.target_kind == wanted.target_kind.value)
    if wanted.target_ids is not None:
        where.append(_is_target(wanted.target_ids, wanted.above_ids))
    if wanted.inherited is not None:
        where.append(columns.inherited.is_(wanted.inherited))
    return where


def _is_actor(user_id: str, with_groups: bool) -> ColumnElement[bool]:
    own = assignments.c.user_id == user_id
    if not with_groups:
        return own
    groups = select(group_members.c.group_id).where(group_members.c.user_id == user_id)
    return or_(own, assignments.c.group_id.in_(groups))


def _is_target(target_ids: Collection[str], above_ids: Collection[str]) -> ColumnElement[bool]:
    direct = among(assignments.c.target_id, target_ids)
    if not above_ids:
        return direct
    return or_(direct, among(assignments.c.target_id, above_ids) & assignments.c.inherited)
