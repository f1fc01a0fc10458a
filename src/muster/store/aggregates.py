"""Host aggregates and their hosts. A host's zone is that of its aggregates, else the one its agent names."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, ForeignKey, Integer, String, Table, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.aggregates import Aggregate, NewAggregate
from muster.store.columns import document, moment, reference, text
from muster.store.dialects import chunks
from muster.store.engine import metadata
from muster.store.hosts import hosts, in_order

aggregates = Table(
    "aggregates",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),  # a number, as in Nova's paths
    Column("uuid", String(64), nullable=False, unique=True),
    Column("name", String(255), nullable=False, unique=True),
    text("availability_zone", nullable=True),
    document("metadata"),  # all but the zone
    moment("created_at"),
    moment("updated_at", nullable=True),
)

aggregate_hosts = Table(
    "aggregate_hosts",
    metadata,
    Column("aggregate_id", Integer, ForeignKey("aggregates.id", ondelete="CASCADE"), primary_key=True),
    reference("host_id", ForeignKey("hosts.id", ondelete="CASCADE"), primary_key=True, index=True),
)


async def insert_aggregate(connection: AsyncConnection, new: NewAggregate, now: float) -> int:
    """Write a new aggregate and return its number; a name that is taken is a Violation. One statement."""
    values = {"uuid": new.uuid, "name": new.name, "availability_zone": new.availability_zone}
    statement = insert(aggregates).values(**values, created_at=now).returning(aggregates.c.id)
    return int((await connection.execute(statement)).scalar_one())


async def read(connection: AsyncConnection, aggregate_id: int | None = None, *, lock: bool = False) -> list[Aggregate]:
    """All aggregates by number, or the one of this number, with their hosts. Two queries.

    With `lock` nobody else changes them until the transaction ends.
    """
    statement = select(aggregates).order_by(aggregates.c.id)
    of_hosts = select(aggregate_hosts.c.aggregate_id, hosts.c.hostname).join(
        hosts, hosts.c.id == aggregate_hosts.c.host_id
    )
    if aggregate_id is not None:
        statement = statement.where(aggregates.c.id == aggregate_id)
        of_hosts = of_hosts.where(aggregate_hosts.c.aggregate_id == aggregate_id)
    if lock:
        statement = statement.with_for_update()
    rows = (await connection.execute(statement)).all()
    names: dict[int, list[str]] = {}
    for number, hostname in await connection.execute(of_hosts.order_by(hosts.c.hostname)):
        names.setdefault(number, []).append(hostname)
    return [_aggregate(row, names.get(row.id, ())) for row in rows]


async def write(connection: AsyncConnection, aggregate_id: int, values: Mapping[str, Any]) -> None:
    """Change fields of an aggregate; a name that is taken is a Violation. One statement."""
    await connection.execute(update(aggregates).where(aggregates.c.id == aggregate_id).values(**values))


async def remove(connection: AsyncConnection, aggregate_id: int) -> None:
    """Delete an aggregate. One statement."""
    await connection.execute(delete(aggregates).where(aggregates.c.id == aggregate_id))


async def add_host(connection: AsyncConnection, aggregate_id: int, host_id: str) -> None:
    """Put a host into an aggregate; one that is in it is a Violation. One statement."""
    await connection.execute(insert(aggregate_hosts).values(aggregate_id=aggregate_id, host_id=host_id))


async def remove_host(connection: AsyncConnection, aggregate_id: int, host_id: str) -> bool:
    """Take a host out of an aggregate; False if it is not in it. One statement."""
    where = (aggregate_hosts.c.aggregate_id == aggregate_id) & (aggregate_hosts.c.host_id == host_id)
    return (await connection.execute(delete(aggregate_hosts).where(where))).rowcount == 1


async def apply_zones(connection: AsyncConnection, host_ids: Collection[str]) -> None:
    """Put these hosts into the zones of their aggregates, the others of them into their own. One statement a chunk."""
    zone = (
        select(func.min(aggregates.c.availability_zone))
        .join(aggregate_hosts, aggregate_hosts.c.aggregate_id == aggregates.c.id)
        .where(aggregate_hosts.c.host_id == hosts.c.id)
        .scalar_subquery()
    )
    for part in chunks(sorted(host_ids)):
        statement = update(hosts).where(hosts.c.id.in_(in_order(part)))
        await connection.execute(statement.values(availability_zone=func.coalesce(zone, hosts.c.own_zone)))


def _aggregate(row: Any, hostnames: Sequence[str]) -> Aggregate:
    return Aggregate(
        id=row.id,
        uuid=row.uuid,
        name=row.name,
        availability_zone=row.availability_zone,
        metadata=row.metadata,
        created_at=row.created_at,
        updated_at=row.updated_at,
        hostnames=tuple(hostnames),
    )
