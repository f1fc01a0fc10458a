"""Server groups over HTTP."""

from typing import Any

from msgspec import Struct

from muster.api.compute.bodies import parse
from muster.api.compute.fields import check_name, check_range, refused
from muster.api.compute.paging import page_asked
from muster.api.compute.projects import own_project
from muster.api.compute.queries import asked, number
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.http.routing import Route, Routes
from muster.base.errors import Forbidden, Invalid
from muster.base.ids import new_uuid
from muster.domain.policies import Rule
from muster.domain.server_groups import HARD_POLICIES, POLICIES, ServerGroup
from muster.services.server_groups import ServerGroups

_OWNERS, _SOFT, _RULES = (2, 13), (2, 15), (2, 64)


class OldGroupBody(Struct, forbid_unknown_fields=True):
    """A group as below 2.64."""

    name: str
    policies: list[str]


class OldCreateBody(Struct, forbid_unknown_fields=True):
    """The body of `POST /os-server-groups` below 2.64."""

    server_group: OldGroupBody


class RulesBody(Struct, forbid_unknown_fields=True):
    """What further belongs to the policy."""

    max_server_per_host: int | None = None


class GroupBody(Struct, forbid_unknown_fields=True):
    """A group from 2.64 on."""

    name: str
    policy: str
    rules: RulesBody | None = None


class CreateBody(Struct, forbid_unknown_fields=True):
    """The body of `POST /os-server-groups` from 2.64 on."""

    server_group: GroupBody


class ServerGroupHandlers:
    """Handlers of `/os-server-groups`."""

    def __init__(self, groups: ServerGroups) -> None:
        self._groups = groups

    async def index(self, request: Request) -> Response:
        """The project's groups, or everybody's. As openstacksdk goes from page to page by a marker here too, and keeps
        the offset meanwhile, a marker wins over it."""
        query = asked(request)
        if "all_projects" in query and not request.context.is_admin:
            message = "Policy doesn't allow os_compute_api:os-server-groups:index:all_projects to be performed."
            raise Forbidden(message, code="http.policy")
        project_id = None if "all_projects" in query else own_project(request)
        page, offset = page_asked(query), number(query, "offset") or 0
        found = await self._groups.page(project_id, limit=page.limit, offset=offset, marker=page.marker)
        return Response({"server_groups": [view(request, group) for group in found]})

    async def show(self, request: Request) -> Response:
        """One group."""
        group = await self._groups.get(request.context, request.parameters["server_group_id"])
        return Response({"server_group": view(request, group)})

    async def create(self, request: Request) -> Response:
        """Make a group."""
        group = await self._parsed(request)
        await self._groups.create(group)
        return Response({"server_group": view(request, group)})

    async def delete(self, request: Request) -> Response:
        """Delete a group."""
        await self._groups.delete(request.context, request.parameters["server_group_id"])
        return Response(status=204)

    async def _parsed(self, request: Request) -> ServerGroup:
        name, policy, max_per_host = await _old(request) if request.version < _RULES else await _new(request)
        return ServerGroup(
            id=new_uuid(),
            project_id=own_project(request),
            user_id=request.context.user_id,
            name=check_name(name),
            policy=policy,
            created_at=self._groups.now(),
            max_per_host=max_per_host,
        )


def server_group_routes(groups: ServerGroups) -> Routes:
    """Method and path to handler and rule."""
    handlers = ServerGroupHandlers(groups)
    one = "/v2.1/os-server-groups/{server_group_id}"
    return {
        ("GET", "/v2.1/os-server-groups"): Route(handlers.index, Rule.PROJECT_READER),
        ("POST", "/v2.1/os-server-groups"): Route(handlers.create, Rule.PROJECT_MEMBER),
        ("GET", one): Route(handlers.show, Rule.PROJECT_READER),
        ("DELETE", one): Route(handlers.delete, Rule.PROJECT_MEMBER),
    }


def view(request: Request, group: ServerGroup) -> dict[str, Any]:
    """A group as Nova shows it."""
    shown: dict[str, Any] = {"id": group.id, "name": group.name, "members": list(group.members)}
    if request.version < _RULES:
        shown |= {"policies": [group.policy], "metadata": {}}
    else:
        rules = {} if group.max_per_host is None else {"max_server_per_host": group.max_per_host}
        shown |= {"policy": group.policy, "rules": rules}
    if request.version >= _OWNERS:
        shown |= {"project_id": group.project_id, "user_id": group.user_id}
    return shown


async def _old(request: Request) -> tuple[str, str, int | None]:
    body = (await parse(request, OldCreateBody)).server_group
    if len(body.policies) != 1:
        raise refused("policies", str(body.policies), "there must be exactly one")
    [policy] = body.policies
    _check_policy(policy, POLICIES if request.version >= _SOFT else HARD_POLICIES)
    return body.name, policy, None


async def _new(request: Request) -> tuple[str, str, int | None]:
    body = (await parse(request, CreateBody, strict=False)).server_group
    _check_policy(body.policy, POLICIES)
    most = body.rules.max_server_per_host if body.rules is not None else None
    if most is None:
        return body.name, body.policy, None
    if body.policy != "anti-affinity":
        raise Invalid("Only anti-affinity policy supports rules.")
    return body.name, body.policy, check_range(most, "max_server_per_host", low=1)


def _check_policy(policy: str, offered: tuple[str, ...]) -> None:
    if policy not in offered:
        raise refused("policy", policy, f"it must be one of {', '.join(offered)}")
