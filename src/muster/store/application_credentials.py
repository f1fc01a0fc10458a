"""Application credentials. Hashes of secrets leave this module only in a CredentialLogin."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Column, ForeignKey, String, Table, UniqueConstraint, delete, select
from sqlalchemy import insert as insert_into
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.application_credentials import ApplicationCredential, CredentialLogin
from muster.domain.attribute_filters import Filter, Listing, Page
from muster.store.attribute_filters import conditions, read_page
from muster.store.columns import document, flag, identity_column, moment, reference, text
from muster.store.dialects import among
from muster.store.engine import metadata

application_credentials = Table(
    "application_credentials",
    metadata,
    identity_column(),
    Column("name", String(255), nullable=False),
    reference("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    reference("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False, index=True),
    document("role_ids", default=list),
    text("description", nullable=True),
    text("secret_hash"),
    moment("expires_at", nullable=True),
    flag("unrestricted"),
    UniqueConstraint("user_id", "name"),
)


def _credential(row: Any) -> ApplicationCredential:
    return ApplicationCredential(
        id=row.id,
        name=row.name,
        user_id=row.user_id,
        project_id=row.project_id,
        role_ids=tuple(row.role_ids),
        description=row.description,
        expires_at_s=row.expires_at,
        unrestricted=row.unrestricted,
    )


async def insert(connection: AsyncConnection, made: Sequence[CredentialLogin]) -> None:
    """Write new credentials. One statement. Raises Violation for a name that the user has."""
    rows = [
        {
            "id": login.credential.id,
            "name": login.credential.name,
            "user_id": login.credential.user_id,
            "project_id": login.credential.project_id,
            "role_ids": list(login.credential.role_ids),
            "description": login.credential.description,
            "secret_hash": login.secret_hash,
            "expires_at": login.credential.expires_at_s,
            "unrestricted": login.credential.unrestricted,
        }
        for login in made
    ]
    await connection.execute(insert_into(application_credentials), rows)


async def read_login(connection: AsyncConnection, credential_id: str) -> CredentialLogin | None:
    """A credential by id, for checking a secret. One query."""
    return await _read_login(connection, application_credentials.c.id == credential_id)


async def find_login(connection: AsyncConnection, user_id: str, name: str) -> CredentialLogin | None:
    """A credential by its user and name, for checking a secret. One query."""
    columns = application_credentials.c
    return await _read_login(connection, (columns.user_id == user_id) & (columns.name == name))


async def _read_login(connection: AsyncConnection, where: Any) -> CredentialLogin | None:
    row = (await connection.execute(select(application_credentials).where(where))).first()
    return CredentialLogin(_credential(row), row.secret_hash) if row else None


async def read_listing(
    connection: AsyncConnection, user_id: str, filters: Sequence[Filter], page: Page
) -> Listing[ApplicationCredential]:
    """A page of a user's credentials. One query."""
    table = application_credentials
    where = [table.c.user_id == user_id, *conditions(table, filters)]
    return await read_page(connection, table, where, page, _credential)


async def remove_of(connection: AsyncConnection, user_ids: Collection[str], project_id: str) -> None:
    """These users' credentials in a project go. One statement."""
    columns = application_credentials.c
    where = among(columns.user_id, sorted(user_ids)) & (columns.project_id == project_id)
    await connection.execute(delete(application_credentials).where(where))


async def remove(connection: AsyncConnection, credential_id: str) -> bool:
    """Delete a credential; whether it was there. One statement."""
    where = application_credentials.c.id == credential_id
    return (await connection.execute(delete(application_credentials).where(where))).rowcount > 0
