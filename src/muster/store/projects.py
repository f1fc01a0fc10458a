"""Projects and domains: one table, for a domain is a project with `is_domain`.

A domain's row takes with it, by foreign keys, all users, groups, roles, projects and assignments of the domain. A
project that has projects below it cannot go, by a foreign key too.
"""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    String,
    Table,
    UniqueConstraint,
    delete,
    select,
    update,
)
from sqlalchemy import insert as insert_into
from sqlalchemy import text as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.assignments import Place
from muster.domain.attribute_filters import Filter, Listing, Page
from muster.domain.projects import Project
from muster.domain.tag_filters import TagFilter
from muster.store.attribute_filters import conditions, read_page
from muster.store.columns import document, flag, identity_column, reference, text
from muster.store.dialects import among, chunks
from muster.store.engine import metadata
from muster.store.tag_filters import tag_conditions

projects = Table(
    "projects",
    metadata,
    identity_column(),
    Column("name", String(255), nullable=False),
    reference("domain_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=True),
    reference("parent_id", ForeignKey("projects.id"), nullable=True, index=True),
    flag("is_domain"),
    flag("enabled", default=True),
    text("description", default=""),
    document("tags", default=list),  # for reading; project_tags is for finding
    document("options"),
    document("extra"),
    UniqueConstraint("domain_id", "name"),
    Index(
        "uq_projects_domains_name",
        "name",
        unique=True,
        sqlite_where=sql("is_domain"),
        postgresql_where=sql("is_domain"),
    ),
)

project_tags = Table(
    "project_tags",
    metadata,
    reference("project_id", ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True),
    Column("tag", String(255), primary_key=True, index=True),
)


def _project(row: Any) -> Project:
    return Project(
        id=row.id,
        name=row.name,
        domain_id=row.domain_id,
        parent_id=row.parent_id,
        is_domain=row.is_domain,
        enabled=row.enabled,
        description=row.description,
        tags=tuple(row.tags),
        options=row.options,
        extra=row.extra,
    )


def _values(project: Project) -> dict[str, Any]:
    return {
        "id": project.id,
        "name": project.name,
        "domain_id": project.domain_id,
        "parent_id": project.parent_id,
        "is_domain": project.is_domain,
        "enabled": project.enabled,
        "description": project.description,
        "tags": list(project.tags),
        "options": dict(project.options),
        "extra": dict(project.extra),
    }


async def insert(connection: AsyncConnection, made: Sequence[Project]) -> None:
    """Write new projects. Two statements. Raises Violation for a name that is taken or a domain that is gone."""
    await connection.execute(insert_into(projects), [_values(project) for project in made])
    await _insert_tags(connection, made)


async def save(connection: AsyncConnection, project: Project) -> None:
    """Write a project that is there over. Three statements."""
    await connection.execute(update(projects).where(projects.c.id == project.id).values(_values(project)))
    await connection.execute(delete(project_tags).where(project_tags.c.project_id == project.id))
    await _insert_tags(connection, [project])


async def _insert_tags(connection: AsyncConnection, made: Sequence[Project]) -> None:
    rows = [{"project_id": project.id, "tag": tag} for project in made for tag in project.tags]
    if rows:
        await connection.execute(insert_into(project_tags), rows)


async def read(connection: AsyncConnection, ids: Collection[str], *, lock: bool = False) -> dict[str, Project]:
    """Projects and domains by id; those that do not exist are left out. `lock` for changing them. One query a chunk."""
    found: dict[str, Project] = {}
    for part in chunks(sorted(ids)):
        statement = select(projects).where(among(projects.c.id, part))
        if lock:
            statement = statement.with_for_update()
        found.update((row.id, _project(row)) for row in await connection.execute(statement))
    return found


async def find(connection: AsyncConnection, domain_id: str | None, name: str) -> Project | None:
    """A project by its domain and name; a domain where `domain_id` is None. One query."""
    where = projects.c.is_domain if domain_id is None else projects.c.domain_id == domain_id
    row = (await connection.execute(select(projects).where(where, projects.c.name == name))).first()
    return _project(row) if row else None


async def read_listing(
    connection: AsyncConnection, filters: Sequence[Filter], page: Page, *, is_domain: bool, tags: TagFilter
) -> Listing[Project]:
    """A page of projects, or of domains. One query."""
    where = [
        projects.c.is_domain.is_(is_domain),
        *conditions(projects, filters),
        *tag_conditions(projects.c.id, project_tags.c.project_id, tags),
    ]
    return await read_page(connection, projects, where, page, _project)


async def read_places(connection: AsyncConnection, domain_ids: Collection[str]) -> dict[str, Place]:
    """Where each project of these domains stands. One query a chunk."""
    places: dict[str, Place] = {}
    for part in chunks(sorted(domain_ids)):
        statement = select(projects.c.id, projects.c.parent_id, projects.c.domain_id).where(
            among(projects.c.domain_id, part)
        )
        places.update(
            (row.id, Place(row.id, row.parent_id, row.domain_id)) for row in await connection.execute(statement)
        )
    return places


async def read_children(connection: AsyncConnection, project_id: str) -> list[Project]:
    """The projects right below a project. One query."""
    statement = select(projects).where(projects.c.parent_id == project_id).order_by(projects.c.id)
    return [_project(row) for row in await connection.execute(statement)]


async def remove(connection: AsyncConnection, project_id: str) -> bool:
    """Delete a project, or a domain with all that is in it; whether it was there. One statement.

    Raises Violation (`foreign_key`) for a project with projects below it.
    """
    return (await connection.execute(delete(projects).where(projects.c.id == project_id))).rowcount > 0
