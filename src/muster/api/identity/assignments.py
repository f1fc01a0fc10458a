"""Role assignments: `/v3/{projects,domains,system}/.../roles/...`, `/v3/OS-INHERIT/...` and `/v3/role_assignments`."""

from typing import Any

from msgspec import Struct

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.identity import views
from muster.base.errors import Invalid
from muster.domain.assignments import Actor, ActorKind, Grant, Target, TargetKind
from muster.domain.attribute_filters import Listing, parse_flag
from muster.services.assignments import AssignmentListing, AssignmentQuery, Assignments

_INHERITED = "OS-INHERIT:inherited_to"


class Grants(Struct, frozen=True):
    """The assignments of one kind of actor on one kind of target, direct or inherited: one place in the paths."""

    assignments: Assignments
    actor: ActorKind
    target: TargetKind
    inherited: bool = False

    async def list(self, request: Request) -> Response:
        """`GET .../roles`."""
        roles = await self.assignments.roles_of(self._actor(request), self._target(request), inherited=self.inherited)
        return views.collection(request, "roles", Listing(roles), views.role)

    async def grant(self, request: Request) -> Response:
        """`PUT .../roles/{role_id}`."""
        await self.assignments.grant(self._grant(request))
        return Response(status=204)

    async def check(self, request: Request) -> Response:
        """`HEAD .../roles/{role_id}`."""
        await self.assignments.check(self._grant(request))
        return Response(status=204)

    async def take_away(self, request: Request) -> Response:
        """`DELETE .../roles/{role_id}`."""
        await self.assignments.take_away(self._grant(request))
        return Response(status=204)

    def _actor(self, request: Request) -> Actor:
        return Actor(self.actor, request.parameters[f"{self.actor.value}_id"])

    def _target(self, request: Request) -> Target:
        return Target(self.target, request.parameters.get(f"{self.target.value}_id", ""))

    def _grant(self, request: Request) -> Grant:
        return Grant(
            actor=self._actor(request),
            target=self._target(request),
            role_id=request.parameters["role_id"],
            inherited=self.inherited,
        )


class RoleAssignments:
    """`/v3/role_assignments`."""

    def __init__(self, assignments: Assignments) -> None:
        self._assignments = assignments

    async def list(self, request: Request) -> Response:
        """`GET /v3/role_assignments`."""
        query = _query(dict(request.query))
        found = await self._assignments.list_all(query)
        rendered = [_view(request, grant, found, query.include_names) for grant in found.grants]
        return Response({"role_assignments": rendered, "links": views.list_links(request)})


def _query(query: dict[str, str]) -> AssignmentQuery:
    def flag(name: str) -> bool:
        return name in query and parse_flag(query[name])

    targets = []
    if "scope.project.id" in query:
        targets.append(Target(TargetKind.PROJECT, query["scope.project.id"]))
    if "scope.domain.id" in query:
        targets.append(Target(TargetKind.DOMAIN, query["scope.domain.id"]))
    if "scope.system" in query:
        targets.append(Target(TargetKind.SYSTEM))
    if len(targets) > 1:
        raise Invalid("Specify one of project, domain and system")
    if "group.id" in query and ("user.id" in query or flag("effective")):
        raise Invalid("A group can be asked for neither together with a user nor with effective assignments")
    if flag("include_subtree") and "scope.project.id" not in query:
        raise Invalid("scope.project.id must be specified if include_subtree is also specified")
    return AssignmentQuery(
        user_id=query.get("user.id"),
        group_id=query.get("group.id"),
        role_id=query.get("role.id"),
        target=targets[0] if targets else None,
        inherited=f"scope.{_INHERITED}" in query,
        effective=flag("effective"),
        include_names=flag("include_names"),
        include_subtree=flag("include_subtree"),
    )


def _view(request: Request, grant: Grant, found: AssignmentListing, with_names: bool) -> dict[str, Any]:
    actor, target = grant.actor, grant.target
    scope: dict[str, Any] = {"system": {"all": True}}
    if target.kind is not TargetKind.SYSTEM:
        scope = {target.kind.value: _place(target, found) if with_names else {"id": target.id}}
    if grant.inherited or grant.inherited_from is not None:
        scope[_INHERITED] = "projects"
    return {
        "role": _role(grant.role_id, found) if with_names else {"id": grant.role_id},
        actor.kind.value: _actor(actor, found) if with_names else {"id": actor.id},
        "scope": scope,
        "links": _links(request, grant),
    }


def _domain(domain_id: str, found: AssignmentListing) -> dict[str, Any]:
    domain = found.projects.get(domain_id)
    return {"id": domain_id, "name": domain.name if domain else ""}


def _place(target: Target, found: AssignmentListing) -> dict[str, Any]:
    place = found.projects.get(target.id)
    if place is None:
        return {"id": target.id, "name": ""}
    if place.domain_id is None:
        return {"id": place.id, "name": place.name}
    return {"id": place.id, "name": place.name, "domain": _domain(place.domain_id, found)}


def _role(role_id: str, found: AssignmentListing) -> dict[str, Any]:
    role = found.roles.get(role_id)
    view: dict[str, Any] = {"id": role_id, "name": role.name if role else ""}
    if role is not None and role.domain_id is not None:
        view["domain"] = _domain(role.domain_id, found)
    return view


def _actor(actor: Actor, found: AssignmentListing) -> dict[str, Any]:
    known = (found.users if actor.kind is ActorKind.USER else found.groups).get(actor.id)
    if known is None:
        return {"id": actor.id, "name": ""}
    return {"id": actor.id, "name": known.name, "domain": _domain(known.domain_id, found)}


def _links(request: Request, grant: Grant) -> dict[str, Any]:
    origin = grant.inherited_from or grant.target
    place = "system" if origin.kind is TargetKind.SYSTEM else f"{origin.kind.value}s/{origin.id}"
    group_id = grant.via_group_id
    actor = f"groups/{group_id}" if group_id else f"{grant.actor.kind.value}s/{grant.actor.id}"
    role_id = grant.prior_role_id or grant.role_id
    path = f"{place}/{actor}/roles/{role_id}"
    if grant.inherited or grant.inherited_from is not None:
        path = f"OS-INHERIT/{path}/inherited_to_projects"
    view = {"assignment": f"{request.base_url}/v3/{path}"}
    if group_id:
        view["membership"] = f"{request.base_url}/v3/groups/{group_id}/users/{grant.actor.id}"
    if grant.prior_role_id:
        view["prior_role"] = f"{request.base_url}/v3/prior_roles/{grant.prior_role_id}/implies/{grant.role_id}"
    return view
