"""Role assignments: granting, checking, taking away, and listing them as granted or as they work out.

Invariant: taking a role away voids the tokens that may rest on it and the application credentials made with it, in
the same transaction.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from muster.base.errors import Forbidden, NotFound
from muster.domain import revocations as subjects
from muster.domain.assignments import Actor, ActorKind, Grant, Target, TargetKind, expand
from muster.domain.groups import Group
from muster.domain.projects import Project
from muster.domain.roles import Role
from muster.domain.users import User
from muster.services.redecide import redeciding_calls
from muster.services.refusals import refusing
from muster.services.revocations import Change, Revocations
from muster.services.rights import read_above
from muster.store import application_credentials as credential_store
from muster.store import assignments as store
from muster.store import groups as group_store
from muster.store import projects as project_store
from muster.store import roles as role_store
from muster.store import users as user_store
from muster.store.assignments import AssignmentFilter
from muster.store.engine import Connection, Database


class AssignmentQuery(Struct, frozen=True, kw_only=True):
    """What to list; None does not narrow. `effective` works groups, inheritance and implied roles out."""

    user_id: str | None = None
    group_id: str | None = None
    role_id: str | None = None
    target: Target | None = None
    inherited: bool = False  # only inherited ones
    effective: bool = False
    include_names: bool = False
    include_subtree: bool = False


class AssignmentListing(Struct, frozen=True, kw_only=True):
    """Assignments and, where asked for, what their ids stand for."""

    grants: list[Grant]
    users: Mapping[str, User] = {}
    groups: Mapping[str, Group] = {}
    roles: Mapping[str, Role] = {}
    projects: Mapping[str, Project] = {}  # domains too


class Assignments:
    """Use cases about role assignments."""

    def __init__(self, db: Database, revocations: Revocations) -> None:
        self._db = db
        self._revocations = revocations

    @redeciding_calls("assignments")
    async def grant(self, grant: Grant) -> None:
        """Give a user or group a role; nothing changes if it has it.

        Raises NotFound, Forbidden for a domain's own role on another's project or the system. Four queries and one
        statement.
        """
        with refusing("assignment"):
            async with self._revocations.write() as change:
                role, place = await _check(change.connection, grant)
                # As Keystone has it: on any domain, where it stands for what it implies, but on no other's projects.
                fits = place is not None and place.domain_id in (None, role.domain_id)
                if role.domain_id is not None and not fits:
                    raise Forbidden("A domain's own role can only be assigned on domains, and on projects of its own")
                await store.insert(change.connection, [grant])

    async def check(self, grant: Grant) -> None:
        """Return if just this was granted. Raises NotFound."""
        async with self._db.read() as connection:
            await _check(connection, grant)
            if not await store.exists(connection, grant):
                raise NotFound(_missing(grant))

    @redeciding_calls("assignments")
    async def take_away(self, grant: Grant) -> None:
        """Take a role from a user or group. Raises NotFound if it was not granted. Up to six statements."""
        async with self._revocations.write() as change:
            if not await store.remove(change.connection, grant):
                await _check(change.connection, grant)
                raise NotFound(_missing(grant))
            user_ids = [grant.actor.id]
            if grant.actor.kind is ActorKind.GROUP:
                user_ids = (await group_store.read_member_ids(change.connection, user_ids))[grant.actor.id]
            await _void(change, grant, user_ids)

    async def roles_of(self, actor: Actor, target: Target, *, inherited: bool = False) -> list[Role]:
        """The roles that a user or group was granted on a target. Raises NotFound. Up to five queries."""
        async with self._db.read() as connection:
            await _check_both(connection, actor, target)
            wanted = AssignmentFilter(
                user_id=actor.id if actor.kind is ActorKind.USER else None,
                group_id=actor.id if actor.kind is ActorKind.GROUP else None,
                target_kind=target.kind,
                target_ids=[target.id] if target.id else None,
                inherited=inherited,
            )
            grants = await store.read(connection, wanted)
            found = await role_store.read(connection, {grant.role_id for grant in grants})
        return sorted(found.values(), key=lambda role: role.name)

    async def list_all(self, query: AssignmentQuery) -> AssignmentListing:
        """Assignments that match. About five queries, four more for names."""
        async with self._db.read() as connection:
            if query.effective:
                grants = await _read_effective(connection, query)
            else:
                grants = await store.read(connection, await _as_granted(connection, query))
            if not query.include_names:
                return AssignmentListing(grants=grants)
            return await _with_names(connection, grants)


async def _void(change: Change, grant: Grant, user_ids: Sequence[str]) -> None:
    if grant.inherited:  # holds in any number of projects
        change.revoke(*(subjects.of_user(user_id) for user_id in user_ids))
        return
    target_id = grant.target.id or subjects.SYSTEM
    change.revoke(*(subjects.of_scope(user_id, target_id) for user_id in user_ids))
    if grant.target.kind is TargetKind.PROJECT and user_ids:
        await credential_store.remove_of(change.connection, user_ids, grant.target.id)


async def _check(connection: Connection, grant: Grant) -> tuple[Role, Project | None]:
    """The role, and the target's row. Raises NotFound if one of the three does not exist."""
    role = (await role_store.read(connection, [grant.role_id])).get(grant.role_id)
    if role is None:
        raise NotFound(f"Could not find role: {grant.role_id}.")
    return role, await _check_both(connection, grant.actor, grant.target)


async def _check_both(connection: Connection, actor: Actor, target: Target) -> Project | None:
    """The target's row. Raises NotFound if actor or target does not exist."""
    is_user = actor.kind is ActorKind.USER
    known = await (user_store.read if is_user else group_store.read)(connection, [actor.id])
    if actor.id not in known:
        raise NotFound(f"Could not find {actor.kind.value}: {actor.id}.")
    if target.kind is TargetKind.SYSTEM:
        return None
    place = (await project_store.read(connection, [target.id])).get(target.id)
    if place is None or (target.kind is TargetKind.DOMAIN and not place.is_domain):
        raise NotFound(f"Could not find {target.kind.value}: {target.id}.")
    return place


def _missing(grant: Grant) -> str:
    return (
        f"Could not find role assignment with role: {grant.role_id}, user or group: {grant.actor.id}, "
        f"project, domain, or system: {grant.target.id or 'all'}."
    )


async def _as_granted(connection: Connection, query: AssignmentQuery) -> AssignmentFilter:
    target = query.target
    target_ids = [target.id] if target is not None and target.id else None
    if target_ids and query.include_subtree:
        target_ids += await _read_below(connection, target_ids[0])
    return AssignmentFilter(
        user_id=query.user_id,
        group_id=query.group_id,
        role_id=query.role_id,
        target_kind=target.kind if target is not None else None,
        target_ids=target_ids,
        inherited=True if query.inherited else None,
    )


async def _read_below(connection: Connection, project_id: str) -> list[str]:
    below: list[str] = []
    waiting = [project_id]
    while waiting:
        children = [child.id for child in await project_store.read_children(connection, waiting.pop(0))]
        below += children
        waiting += children
    return below


async def _read_effective(connection: Connection, query: AssignmentQuery) -> list[Grant]:
    """Everything that may matter is read and worked out; filters on what comes out are applied last."""
    target_ids, above_ids = await _read_reach(connection, query)
    kind = query.target.kind if query.target is not None and not above_ids else None
    wanted = AssignmentFilter(
        user_id=query.user_id, with_groups=True, target_kind=kind, target_ids=target_ids, above_ids=above_ids
    )
    granted = await store.read(connection, wanted)
    group_ids = {grant.actor.id for grant in granted if grant.actor.kind is ActorKind.GROUP}
    members = await group_store.read_member_ids(connection, group_ids)
    places = await project_store.read_places(connection, await _read_domains(connection, granted))
    effective = expand(granted, members, places, await role_store.read_implications(connection))
    roles = await role_store.read(connection, {grant.role_id for grant in effective})
    return [
        grant
        for grant in effective
        if (role := roles.get(grant.role_id)) is not None
        and role.domain_id is None  # a domain's own role only stands for those that it implies
        and query.user_id in {None, grant.actor.id}
        and query.role_id in {None, grant.role_id}
        and (query.target is None or _is_on(grant.target, query.target, target_ids))
        and (not query.inherited or grant.inherited_from is not None)
    ]


def _is_on(target: Target, wanted: Target, target_ids: Sequence[str] | None) -> bool:
    return target.kind is wanted.kind and (target_ids is None or target.id in target_ids)


async def _read_reach(connection: Connection, query: AssignmentQuery) -> tuple[list[str] | None, list[str]]:
    """The ids of the targets that are asked for, and of what stands above them."""
    target = query.target
    if target is None or not target.id:
        return None, []
    place = (await project_store.read(connection, [target.id])).get(target.id)
    if target.kind is not TargetKind.PROJECT or place is None:
        return [target.id], []
    below = await _read_below(connection, target.id) if query.include_subtree else []
    return [target.id, *below], [*await read_above(connection, place), target.id]


async def _read_domains(connection: Connection, granted: Sequence[Grant]) -> set[str]:
    inherited = {grant.target.id for grant in granted if grant.inherited}
    if not inherited:
        return set()
    found = await project_store.read(connection, inherited)
    return {place.domain_id or place.id for place in found.values()}


async def _with_names(connection: Connection, grants: list[Grant]) -> AssignmentListing:
    actors = [grant.actor for grant in grants]
    users = await user_store.read(connection, {actor.id for actor in actors if actor.kind is ActorKind.USER})
    groups = await group_store.read(connection, {actor.id for actor in actors if actor.kind is ActorKind.GROUP})
    roles = await role_store.read(connection, {grant.role_id for grant in grants})
    places = await project_store.read(connection, {grant.target.id for grant in grants if grant.target.id})
    owned: list[User | Group | Role | Project] = [*users.values(), *groups.values(), *roles.values(), *places.values()]
    domains = await project_store.read(connection, {one.domain_id for one in owned if one.domain_id})
    return AssignmentListing(grants=grants, users=users, groups=groups, roles=roles, projects={**places, **domains})
