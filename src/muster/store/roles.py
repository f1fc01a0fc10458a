"""Roles, and which role implies which."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Column, ForeignKey, Index, String, Table, UniqueConstraint, delete, select, update
from sqlalchemy import insert as insert_into
from sqlalchemy import text as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.attribute_filters import Filter, Listing, Page
from muster.domain.roles import Implication, Role
from muster.store.attribute_filters import conditions, read_page
from muster.store.columns import document, identity_column, reference, text
from muster.store.dialects import among, chunks, hold_table, upsert
from muster.store.engine import metadata

_GLOBAL = sql("domain_id IS NULL")

roles = Table(
    "roles",
    metadata,
    identity_column(),
    Column("name", String(255), nullable=False),
    reference("domain_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=True),
    text("description", nullable=True),
    document("options"),
    document("extra"),
    UniqueConstraint("domain_id", "name"),
    Index("uq_roles_global_name", "name", unique=True, sqlite_where=_GLOBAL, postgresql_where=_GLOBAL),
)

implied_roles = Table(
    "implied_roles",
    metadata,
    reference("prior_role_id", ForeignKey("roles.id", ondelete="CASCADE"), primary_key=True),
    reference("implied_role_id", ForeignKey("roles.id", ondelete="CASCADE"), primary_key=True),
)


def _role(row: Any) -> Role:
    return Role(
        id=row.id,
        name=row.name,
        domain_id=row.domain_id,
        description=row.description,
        options=row.options,
        extra=row.extra,
    )


def _values(role: Role) -> dict[str, Any]:
    return {
        "id": role.id,
        "name": role.name,
        "domain_id": role.domain_id,
        "description": role.description,
        "options": dict(role.options),
        "extra": dict(role.extra),
    }


async def insert(connection: AsyncConnection, made: Sequence[Role]) -> None:
    """Write new roles. One statement. Raises Violation for a name that is taken or a domain that is gone."""
    await connection.execute(insert_into(roles), [_values(role) for role in made])


async def save(connection: AsyncConnection, role: Role) -> None:
    """Write a role that is there over. One statement."""
    await connection.execute(update(roles).where(roles.c.id == role.id).values(_values(role)))


async def read(connection: AsyncConnection, ids: Collection[str], *, lock: bool = False) -> dict[str, Role]:
    """Roles by id; those that do not exist are left out. `lock` for changing them. One query a chunk."""
    found: dict[str, Role] = {}
    for part in chunks(sorted(ids)):
        statement = select(roles).where(among(roles.c.id, part))
        if lock:
            statement = statement.with_for_update()
        found.update((row.id, _role(row)) for row in await connection.execute(statement))
    return found


async def find(connection: AsyncConnection, names: Collection[str]) -> dict[str, Role]:
    """Roles without a domain by name. One query."""
    statement = select(roles).where(among(roles.c.name, names), roles.c.domain_id.is_(None))
    return {row.name: _role(row) for row in await connection.execute(statement)}


async def read_listing(connection: AsyncConnection, filters: Sequence[Filter], page: Page) -> Listing[Role]:
    """A page of roles. One query."""
    return await read_page(connection, roles, conditions(roles, filters), page, _role)


async def read_implications(connection: AsyncConnection) -> list[Implication]:
    """Which role implies which: a handful. One query."""
    statement = select(implied_roles.c.prior_role_id, implied_roles.c.implied_role_id)
    statement = statement.order_by(implied_roles.c.prior_role_id, implied_roles.c.implied_role_id)
    return [Implication(*row) for row in await connection.execute(statement)]


async def hold_implications(connection: AsyncConnection) -> None:
    """Nobody else changes which role implies which until the transaction ends. Costs a statement on PostgreSQL."""
    await hold_table(connection, implied_roles)


async def add_implications(connection: AsyncConnection, made: Sequence[Implication]) -> None:
    """Let roles imply others; nothing changes where they do. One statement. Raises Violation if one is gone."""
    statement = upsert(connection, implied_roles).on_conflict_do_nothing()
    rows = [{"prior_role_id": one.prior_id, "implied_role_id": one.implied_id} for one in made]
    await connection.execute(statement, rows)


async def remove_implication(connection: AsyncConnection, gone: Implication) -> bool:
    """A role implies another no more; whether it did. One statement."""
    where = (implied_roles.c.prior_role_id == gone.prior_id) & (implied_roles.c.implied_role_id == gone.implied_id)
    return (await connection.execute(delete(implied_roles).where(where))).rowcount > 0


async def remove(connection: AsyncConnection, role_id: str) -> bool:
    """Delete a role with its assignments and implications; whether it was there. One statement."""
    return (await connection.execute(delete(roles).where(roles.c.id == role_id))).rowcount > 0
