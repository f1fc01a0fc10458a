"""Tags of network resources (networks, subnets, ports, security groups)."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Column, String, Table, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.store.columns import reference
from muster.store.dialects import among, chunks, upsert
from muster.store.engine import metadata

tags = Table(
    "tags",
    metadata,
    reference("resource_id", primary_key=True),
    Column("tag", String(255), primary_key=True, index=True),
)


async def read(connection: AsyncConnection, resource_ids: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """The tags of these resources, sorted; resources without tags are missing. One query per chunk."""
    found: dict[str, list[str]] = {}
    for part in chunks(resource_ids):
        statement = select(tags).where(among(tags.c.resource_id, part)).order_by(tags.c.tag)
        for resource_id, tag in await connection.execute(statement):
            found.setdefault(resource_id, []).append(tag)
    return {resource_id: tuple(names) for resource_id, names in found.items()}


async def add(connection: AsyncConnection, resource_id: str, names: Collection[str]) -> None:
    """Give a resource these tags; those it has already stay. One statement."""
    if names:
        rows = [{"resource_id": resource_id, "tag": name} for name in sorted(set(names))]
        await connection.execute(upsert(connection, tags).on_conflict_do_nothing(), rows)


async def remove(connection: AsyncConnection, resource_id: str, names: Collection[str] | None = None) -> int:
    """Take these tags (None: all) from a resource; returns how many there were. One statement."""
    statement = delete(tags).where(tags.c.resource_id == resource_id)
    if names is not None:
        statement = statement.where(among(tags.c.tag, names))
    return (await connection.execute(statement)).rowcount


async def forget(connection: AsyncConnection, resource_ids: Sequence[str]) -> None:
    """These resources are gone. One statement per chunk."""
    for part in chunks(resource_ids):
        await connection.execute(delete(tags).where(among(tags.c.resource_id, part)))
