"""Flavors, and which projects may use those that are not public."""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import asdict
from sqlalchemy import Column, Float, ForeignKey, String, Table, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.flavors import Flavor, FlavorTable
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


NAME_TAKEN = "uq_flavors_name"


async def ensure(connection: AsyncConnection, wanted: Sequence[Flavor]) -> None:
    """Write these flavors where no flavor has the id or the name. One statement, executed for many."""
    await connection.execute(upsert(connection, flavors).on_conflict_do_nothing(), [asdict(one) for one in wanted])


async def insert_flavor(connection: AsyncConnection, flavor: Flavor) -> None:
    """Write a new flavor; a name or an id that is taken is a Violation. One statement."""
    await connection.execute(insert(flavors).values(asdict(flavor)))


async def read_all(connection: AsyncConnection) -> FlavorTable:
    """All flavors, and who may use those that are not public. Two queries, one where all are public."""
    found = {row.id: _flavor(row) for row in await connection.execute(select(flavors))}
    access: dict[str, set[str]] = {}
    if all(flavor.is_public for flavor in found.values()):
        return FlavorTable(found, {})
    for flavor_id, project_id in await connection.execute(select(flavor_access)):
        access.setdefault(flavor_id, set()).add(project_id)
    return FlavorTable(found, {flavor_id: frozenset(members) for flavor_id, members in access.items()})


async def read_locked(connection: AsyncConnection, flavor_id: str) -> Flavor | None:
    """A flavor that nobody else changes until the transaction ends. One query."""
    row = (await connection.execute(select(flavors).where(flavors.c.id == flavor_id).with_for_update())).first()
    return None if row is None else _flavor(row)


async def write(connection: AsyncConnection, flavor: Flavor) -> None:
    """Write what may change of a flavor: its description and extra specs. One statement."""
    values = {name: getattr(flavor, name) for name in ("description", "extra_specs", "updated_at")}
    await connection.execute(update(flavors).where(flavors.c.id == flavor.id).values(**values))


async def remove(connection: AsyncConnection, flavor_id: str) -> bool:
    """Delete a flavor, and who may use it; False if there is none. One statement."""
    return (await connection.execute(delete(flavors).where(flavors.c.id == flavor_id))).rowcount == 1


async def add_access(connection: AsyncConnection, flavor_id: str, project_id: str) -> None:
    """Give a flavor to a project. One statement. Raises Violation if it has it, or if there is no such flavor."""
    await connection.execute(insert(flavor_access).values(flavor_id=flavor_id, project_id=project_id))


async def remove_access(connection: AsyncConnection, flavor_id: str, project_id: str) -> bool:
    """Take a flavor from a project; False if it has it not. One statement."""
    where = (flavor_access.c.flavor_id == flavor_id) & (flavor_access.c.project_id == project_id)
    return (await connection.execute(delete(flavor_access).where(where))).rowcount == 1


def _flavor(row: Any) -> Flavor:
    return Flavor(**{name: row._mapping[name] for name in Flavor.__struct_fields__})
