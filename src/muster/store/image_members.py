"""The projects that images are shared with."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import delete, func, select, tuple_, update
from sqlalchemy import insert as insert_into
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.images import Member, MemberStatus
from muster.store.images import image_members

TAKEN = "pk_image_members"


async def insert(connection: AsyncConnection, made: Sequence[Member]) -> None:
    """Write new members. One statement. Raises Violation: TAKEN for one that is there, or its image is gone."""
    await connection.execute(insert_into(image_members), [_values(member) for member in made])


async def read(connection: AsyncConnection, pairs: Collection[tuple[str, str]]) -> dict[tuple[str, str], Member]:
    """Members by (image, project); those that do not exist are left out. One query."""
    if not pairs:
        return {}
    key = tuple_(image_members.c.image_id, image_members.c.member_id)
    rows = await connection.execute(select(image_members).where(key.in_(sorted(pairs))))
    return {(row.image_id, row.member_id): _member(row) for row in rows}


async def read_of_image(connection: AsyncConnection, image_id: str) -> list[Member]:
    """All members of an image, of which there are few. One query."""
    statement = select(image_members).where(image_members.c.image_id == image_id)
    statement = statement.order_by(image_members.c.created_at, image_members.c.member_id)
    return [_member(row) for row in await connection.execute(statement)]


async def count(connection: AsyncConnection, image_id: str) -> int:
    """How many members an image has. One query."""
    statement = select(func.count()).select_from(image_members).where(image_members.c.image_id == image_id)
    return int((await connection.execute(statement)).scalar_one())


async def set_status(connection: AsyncConnection, member: Member) -> None:
    """Write what a member says now. One statement."""
    values = {"status": str(member.status), "updated_at": member.updated_at}
    await connection.execute(update(image_members).where(_is(member.image_id, member.member_id)).values(values))


async def remove(connection: AsyncConnection, image_id: str, member_id: str) -> bool:
    """An image is not shared with a project any more; whether it was. One statement."""
    return (await connection.execute(delete(image_members).where(_is(image_id, member_id)))).rowcount > 0


def _is(image_id: str, member_id: str) -> Any:
    return (image_members.c.image_id == image_id) & (image_members.c.member_id == member_id)


def _values(member: Member) -> dict[str, Any]:
    return {
        "image_id": member.image_id,
        "member_id": member.member_id,
        "status": str(member.status),
        "created_at": member.created_at,
        "updated_at": member.updated_at,
    }


def _member(row: Any) -> Member:
    return Member(
        image_id=row.image_id,
        member_id=row.member_id,
        status=MemberStatus(row.status),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
