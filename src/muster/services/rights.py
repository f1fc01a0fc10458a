"""What a user may do where: grants, groups, inheritance and implied roles worked out for one user."""

from collections.abc import Collection

from muster.domain.assignments import Grant, Target, TargetKind, ancestors, expand
from muster.domain.projects import Project
from muster.domain.roles import Role, implied_by
from muster.store import assignments as assignment_store
from muster.store import projects as project_store
from muster.store import roles as role_store
from muster.store.assignments import AssignmentFilter
from muster.store.engine import Connection


async def read_above(connection: Connection, project: Project) -> list[str]:
    """The projects above a project and its domain. No query for a project at the top of its domain."""
    if project.domain_id is None:
        return []
    if project.parent_id in {None, project.domain_id}:
        return [project.domain_id]
    places = await project_store.read_places(connection, [project.domain_id])
    return ancestors(places[project.id], places) if project.id in places else [project.domain_id]


async def read_roles(
    connection: Connection, user_id: str, target: Target, project: Project | None = None
) -> list[Role]:
    """The roles, implied ones too, that a user holds on a target; `project` is the target if it is a project.

    Sorted by name. Three queries, one more for a project below another.
    """
    above = await read_above(connection, project) if project is not None else []
    wanted = AssignmentFilter(
        user_id=user_id,
        with_groups=True,
        target_kind=None if project is not None else target.kind,
        target_ids=None if target.kind is TargetKind.SYSTEM else [target.id],
        above_ids=above,
    )
    grants = await assignment_store.read(connection, wanted)
    held = {grant.role_id for grant in grants if not (grant.inherited and grant.target.id == target.id)}
    return await expand_roles(connection, held)


async def expand_roles(connection: Connection, role_ids: Collection[str]) -> list[Role]:
    """These roles and all that they imply, without those that only stand for others. Two queries."""
    if not role_ids:
        return []
    whole = implied_by(role_ids, await role_store.read_implications(connection))
    found = await role_store.read(connection, whole)
    return sorted((role for role in found.values() if role.domain_id is None), key=lambda role: role.name)


async def read_targets(connection: Connection, user_id: str) -> list[Target]:
    """Where a user holds a role: projects, domains, the system. One query, two where something is inherited."""
    wanted = AssignmentFilter(user_id=user_id, with_groups=True)
    grants = await assignment_store.read(connection, wanted)
    placed = await _expand_inherited(connection, grants)
    return list(dict.fromkeys(grant.target for grant in placed))


async def _expand_inherited(connection: Connection, grants: Collection[Grant]) -> list[Grant]:
    """The grants with inherited ones as the projects that they hold in; actors and roles as they are."""
    inherited = {grant.target.id for grant in grants if grant.inherited}
    if not inherited:
        return list(grants)
    domain_ids = {
        project.domain_id or project.id for project in (await project_store.read(connection, inherited)).values()
    }
    places = await project_store.read_places(connection, domain_ids)
    groups = {grant.actor.id: [grant.actor.id] for grant in grants}
    return expand(grants, groups, places, [])
