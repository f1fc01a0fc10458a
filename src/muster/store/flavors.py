"""Flavors, and which projects may use those that are not public."""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import asdict
from sqlalchemy import Column, Float, ForeignKey, String, Table, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.flavors import Flavor
from muster.store.columns import document, flag, identity_column, integer, moment, reference, text
from muster.store.dialects import upsert
from muster.store.engine import metadata

flavors = Table(
    "flavors",
    metadata,
    identity_column(),
    Column("name", String(255), nullable=False, unique=True),
    text("description", nullable=True),
    integer("vcpus"),
    integer("ram_mib"),
    integer("disk_gib", default=0),
    integer("ephemeral_gib", default=0),
    integer("swap_mib", default=0),
    Column("rxtx_factor", Float(53), nullable=False, default=1.0),
    flag("is_public", default=True),
    flag("disabled"),
    document("extra_specs"),
    moment("created_at"),
    moment("updated_at"),
)

flavor_access = Table(
    "flavor_access",
    metadata,
    reference("flavor_id", ForeignKey("flavors.id", ondelete="CASCADE"), primary_key=True),
    reference("project_id", primary_key=True),
)


async def ensure(connection: AsyncConnection, wanted: Sequence[Flavor], now: float) -> None:
    """Write these flavors where no flavor has the id or the name. One statement, executed for many."""
    rows = [{**asdict(flavor), "created_at": now, "updated_at": now} for flavor in wanted]
    await connection.execute(upsert(connection, flavors).on_conflict_do_nothing(), rows)


async def read_seen(connection: AsyncConnection, project_id: str | None, *, everything: bool) -> list[Flavor]:
    """The flavors that a project may use, or all, in the order of their sizes. One query."""
    statement = select(flavors).order_by(flavors.c.ram_mib, flavors.c.vcpus, flavors.c.id)
    if not everything:
        granted = select(flavor_access.c.flavor_id).where(flavor_access.c.project_id == project_id)
        statement = statement.where(or_(flavors.c.is_public, flavors.c.id.in_(granted)))
    return [_flavor(row) for row in await connection.execute(statement)]


def _flavor(row: Any) -> Flavor:
    return Flavor(**{name: row._mapping[name] for name in Flavor.__struct_fields__})
