"""Role assignments: who holds which role where, as granted and as it works out.

A grant is to a user or a group, on a project, a domain or the system. An inherited one is on a domain or project but
holds only in the projects below it.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import Enum

from msgspec import Struct
from msgspec.structs import replace

from muster.domain.roles import Implication, implied_by


class ActorKind(Enum):
    """Who can be granted a role."""

    USER = "user"
    GROUP = "group"


class TargetKind(Enum):
    """Where a role can be granted."""

    PROJECT = "project"
    DOMAIN = "domain"
    SYSTEM = "system"


class Actor(Struct, frozen=True):
    """A user or a group."""

    kind: ActorKind
    id: str


class Target(Struct, frozen=True):
    """A project, a domain or the whole system (whose id is empty)."""

    kind: TargetKind
    id: str = ""


class Grant(Struct, frozen=True, kw_only=True):
    """One role assignment. The last three say how an effective one came about."""

    actor: Actor
    target: Target
    role_id: str
    inherited: bool = False
    via_group_id: str | None = None
    inherited_from: Target | None = None
    prior_role_id: str | None = None


class Place(Struct, frozen=True):
    """Where a project stands in its tree."""

    id: str
    parent_id: str | None
    domain_id: str


def ancestors(project: Place, places: Mapping[str, Place]) -> list[str]:
    """The projects above a project, nearest first, and its domain at the end."""
    above: list[str] = []
    parent_id = project.parent_id
    while parent_id is not None and parent_id in places and parent_id not in above:
        above.append(parent_id)
        parent_id = places[parent_id].parent_id
    return above if project.domain_id in above else [*above, project.domain_id]


def expand(
    grants: Iterable[Grant],
    members: Mapping[str, Collection[str]],
    places: Mapping[str, Place],
    implications: Collection[Implication],
) -> list[Grant]:
    """The effective assignments: groups as their members, inherited ones as the projects they hold in, implied roles.

    `members` maps a group to its users; `places` holds every project that an inherited grant may reach.
    """
    effective: dict[tuple[Actor, Target, str], Grant] = {}
    for grant in grants:
        for one in _to_users(grant, members):
            for placed in _to_projects(one, places):
                for whole in _to_roles(placed, implications):
                    effective.setdefault((whole.actor, whole.target, whole.role_id), whole)
    return list(effective.values())


def _to_users(grant: Grant, members: Mapping[str, Collection[str]]) -> Iterator[Grant]:
    if grant.actor.kind is ActorKind.USER:
        yield grant
        return
    for user_id in members.get(grant.actor.id, ()):
        yield replace(grant, actor=Actor(ActorKind.USER, user_id), via_group_id=grant.actor.id)


def _to_projects(grant: Grant, places: Mapping[str, Place]) -> Iterator[Grant]:
    if not grant.inherited:
        yield grant
        return
    for place in places.values():
        if grant.target.id in ancestors(place, places):
            target = Target(TargetKind.PROJECT, place.id)
            yield replace(grant, target=target, inherited=False, inherited_from=grant.target)


def _to_roles(grant: Grant, implications: Collection[Implication]) -> Iterator[Grant]:
    for role_id, prior in implied_by([grant.role_id], implications).items():
        yield grant if prior is None else replace(grant, role_id=role_id, prior_role_id=prior)
