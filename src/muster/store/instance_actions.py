"""What was asked of servers, by whom, and how it ended."""

from collections.abc import Sequence

from msgspec.structs import asdict
from sqlalchemy import BigInteger, Column, Integer, Table, and_, bindparam, delete, select, update
from sqlalchemy import insert as insert_into
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.base.errors import NotFound
from muster.domain.instance_actions import ActionQuery, InstanceAction
from muster.store.columns import CHANGED_ONCE, moment, reference, text
from muster.store.dialects import Keyed, among, chunks
from muster.store.engine import metadata

instance_actions = Table(
    "instance_actions",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    reference("server_id", nullable=False, index=True),
    text("action"),
    text("request_id"),
    reference("user_id", nullable=False),
    reference("project_id", nullable=False),
    text("message", nullable=True),
    moment("started_at"),
    moment("updated_at"),
    moment("finished_at", nullable=True),
    postgresql_with=CHANGED_ONCE,
)


async def insert(connection: AsyncConnection, actions: Sequence[InstanceAction]) -> None:
    """Write actions. One statement."""
    if actions:
        await connection.execute(insert_into(instance_actions), [asdict(action) for action in actions])


_FINISH = Keyed(
    instance_actions.c.server_id,
    lambda theirs: (
        update(instance_actions)
        .where(theirs, instance_actions.c.finished_at.is_(None))
        .values(finished_at=bindparam("now"), updated_at=bindparam("now"), message=bindparam("what"))
    ),
)


async def finish(
    connection: AsyncConnection, server_ids: Sequence[str], now: float, message: str | None = None
) -> None:
    """The actions under way of these servers are done; `message` says what failed. One statement per chunk."""
    for part in chunks(server_ids):
        await connection.execute(*_FINISH(part, now=now, what=message))


async def read_due(
    connection: AsyncConnection, *, after: int, before: float, limit: int
) -> tuple[list[int], int | None]:
    """The ids of actions, but creations, that ended before that moment, among the next `limit` after an id; and the id
    after which to go on: None where younger ones begin. One query.

    By the primary key: ids are in the order in which actions were written, which is that of their beginnings but for
    seconds.
    """
    columns = instance_actions.c
    due = and_(columns.finished_at < before, columns.action != "create").label("due")
    statement = select(columns.id, columns.started_at, due).where(columns.id > after).order_by(columns.id).limit(limit)
    found = (await connection.execute(statement)).all()
    more = len(found) == limit and all(row.started_at < before for row in found)
    return [row.id for row in found if row.due], found[-1].id if more else None


async def remove(connection: AsyncConnection, action_ids: Sequence[int]) -> int:
    """Remove these actions; how many of them there still were. One statement per chunk."""
    removed = 0
    for part in chunks(action_ids):
        removed += (
            await connection.execute(delete(instance_actions).where(among(instance_actions.c.id, part)))
        ).rowcount
    return removed


async def read(connection: AsyncConnection, server_id: str, query: ActionQuery) -> list[InstanceAction]:
    """What was asked of a server, newest first. One query, two with a marker. Raises NotFound for an unknown one."""
    columns = instance_actions.c
    statement = select(instance_actions).where(columns.server_id == server_id).order_by(columns.id.desc())
    if query.request_id is not None:
        statement = statement.where(columns.request_id == query.request_id)
    if query.changes_since is not None:
        statement = statement.where(columns.updated_at >= query.changes_since)
    if query.changes_before is not None:
        statement = statement.where(columns.updated_at <= query.changes_before)
    if query.marker is not None:
        found = select(columns.id).where(columns.server_id == server_id, columns.request_id == query.marker)
        marker = (await connection.execute(found.order_by(columns.id))).scalars().first()
        if marker is None:
            raise NotFound(f"Marker {query.marker} could not be found.", code="compute.marker")
        statement = statement.where(columns.id < marker)
    if query.limit is not None:
        statement = statement.limit(query.limit)
    return [
        InstanceAction(**{name: value for name, value in row._mapping.items() if name != "id"})
        for row in await connection.execute(statement)
    ]
