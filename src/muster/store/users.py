"""Users. Password hashes leave this module only in a Login."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Column, ForeignKey, String, Table, UniqueConstraint, delete, select, update
from sqlalchemy import insert as insert_into
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.attribute_filters import Filter, Listing, Page
from muster.domain.users import Login, User
from muster.store.attribute_filters import conditions, read_page
from muster.store.columns import document, flag, identity_column, moment, reference, text
from muster.store.dialects import among, chunks
from muster.store.engine import metadata

users = Table(
    "users",
    metadata,
    identity_column(),
    reference("domain_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(255), nullable=False),
    flag("enabled", default=True),
    reference("default_project_id", nullable=True, index=True),
    text("password_hash", nullable=True),
    document("options"),
    document("extra"),
    moment("created_at"),
    UniqueConstraint("domain_id", "name"),
)


def build(row: Any) -> User:
    """A user from a row of the table."""
    return User(
        id=row.id,
        name=row.name,
        domain_id=row.domain_id,
        enabled=row.enabled,
        default_project_id=row.default_project_id,
        options=row.options,
        extra=row.extra,
        created_at_s=row.created_at,
    )


def _values(user: User) -> dict[str, Any]:
    return {
        "id": user.id,
        "name": user.name,
        "domain_id": user.domain_id,
        "enabled": user.enabled,
        "default_project_id": user.default_project_id,
        "options": dict(user.options),
        "extra": dict(user.extra),
        "created_at": user.created_at_s,
    }


async def insert(connection: AsyncConnection, logins: Sequence[Login]) -> None:
    """Write new users with their password hashes. One statement.

    Raises Violation for a name that is taken or a domain that is gone.
    """
    rows = [{**_values(login.user), "password_hash": login.password_hash} for login in logins]
    await connection.execute(insert_into(users), rows)


async def save(connection: AsyncConnection, user: User) -> None:
    """Write a user that is there over, but for the password. One statement."""
    await connection.execute(update(users).where(users.c.id == user.id).values(_values(user)))


async def set_password(connection: AsyncConnection, user_id: str, password_hash: str | None) -> None:
    """Write a user's password hash. One statement."""
    await connection.execute(update(users).where(users.c.id == user_id).values(password_hash=password_hash))


async def read(connection: AsyncConnection, ids: Collection[str], *, lock: bool = False) -> dict[str, User]:
    """Users by id; those that do not exist are left out. `lock` for changing them. One query a chunk."""
    found: dict[str, User] = {}
    for part in chunks(sorted(ids)):
        statement = select(users).where(among(users.c.id, part))
        if lock:
            statement = statement.with_for_update()
        found.update((row.id, build(row)) for row in await connection.execute(statement))
    return found


async def read_ids(connection: AsyncConnection, domain_id: str) -> list[str]:
    """The ids of a domain's users. One query."""
    return list((await connection.execute(select(users.c.id).where(users.c.domain_id == domain_id))).scalars())


async def read_login(connection: AsyncConnection, user_id: str) -> Login | None:
    """A user by id, for checking a password. One query."""
    row = (await connection.execute(select(users).where(users.c.id == user_id))).first()
    return Login(build(row), row.password_hash) if row else None


async def find_login(connection: AsyncConnection, domain_id: str, name: str) -> Login | None:
    """A user by domain and name, for checking a password. One query."""
    statement = select(users).where(users.c.domain_id == domain_id, users.c.name == name)
    row = (await connection.execute(statement)).first()
    return Login(build(row), row.password_hash) if row else None


async def read_listing(connection: AsyncConnection, filters: Sequence[Filter], page: Page) -> Listing[User]:
    """A page of users. One query."""
    return await read_page(connection, users, conditions(users, filters), page, build)


async def forget_default_project(connection: AsyncConnection, project_id: str) -> None:
    """No user has this default project any more. One statement."""
    where = users.c.default_project_id == project_id
    await connection.execute(update(users).where(where).values(default_project_id=None))


async def remove(connection: AsyncConnection, user_id: str) -> bool:
    """Delete a user with memberships, assignments and credentials; whether it was there. One statement."""
    return (await connection.execute(delete(users).where(users.c.id == user_id))).rowcount > 0
