"""`/v3/roles`, which of them imply which, and `/v3/role_inferences`."""

from typing import Any

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.identity import views
from muster.api.identity.bodies import read_new, read_patch
from muster.domain.attribute_filters import Filter, parse_filters, parse_page
from muster.domain.patches import RolePatch
from muster.domain.roles import ROLE_FILTERS, Role
from muster.services.roles import Roles


class RolesApi:
    """`/v3/roles`."""

    def __init__(self, roles: Roles) -> None:
        self._roles = roles

    async def create(self, request: Request) -> Response:
        """`POST /v3/roles`."""
        role = await self._roles.create(await read_new(request, "role", RolePatch))
        return Response({"role": views.role(request, role)}, status=201)

    async def list(self, request: Request) -> Response:
        """`GET /v3/roles`: those without a domain, or those of one domain."""
        filters = parse_filters(request.query, ROLE_FILTERS)
        if not any(one.attribute == "domain_id" for one in filters):
            filters.append(Filter("domain_id", None))
        found = await self._roles.list_page(filters, parse_page(request.query))
        return views.collection(request, "roles", found, views.role)

    async def show(self, request: Request) -> Response:
        """`GET /v3/roles/{role_id}`."""
        return Response({"role": views.role(request, await self._roles.show(request.parameters["role_id"]))})

    async def update(self, request: Request) -> Response:
        """`PATCH /v3/roles/{role_id}`."""
        patch = await read_patch(request, "role", RolePatch)
        role = await self._roles.update(request.parameters["role_id"], patch)
        return Response({"role": views.role(request, role)})

    async def delete(self, request: Request) -> Response:
        """`DELETE /v3/roles/{role_id}`."""
        await self._roles.delete(request.parameters["role_id"])
        return Response(status=204)

    async def implied(self, request: Request) -> Response:
        """`GET /v3/roles/{role_id}/implies`."""
        prior, implied = await self._roles.implications(request.parameters["role_id"])
        body = _inference(request, prior, implied)
        return Response({"role_inference": body, "links": views.list_links(request)})

    async def imply(self, request: Request) -> Response:
        """`PUT /v3/roles/{role_id}/implies/{implied_id}`."""
        prior, implied = await self._roles.imply(request.parameters["role_id"], request.parameters["implied_id"])
        return Response(_pair(request, prior, implied), status=201)

    async def check_implies(self, request: Request) -> Response:
        """`GET /v3/roles/{role_id}/implies/{implied_id}`."""
        parameters = request.parameters
        prior, implied = await self._roles.check_implies(parameters["role_id"], parameters["implied_id"])
        return Response(_pair(request, prior, implied), status=204 if request.method == "HEAD" else 200)

    async def stop_implying(self, request: Request) -> Response:
        """`DELETE /v3/roles/{role_id}/implies/{implied_id}`."""
        await self._roles.stop_implying(request.parameters["role_id"], request.parameters["implied_id"])
        return Response(status=204)

    async def inferences(self, request: Request) -> Response:
        """`GET /v3/role_inferences`."""
        found = await self._roles.all_implications()
        body = [_inference(request, prior, implied) for prior, implied in found]
        return Response({"role_inferences": body, "links": views.list_links(request)})


def _short(request: Request, role: Role) -> dict[str, Any]:
    return {"id": role.id, "name": role.name, "links": views.links(request, f"roles/{role.id}")}


def _inference(request: Request, prior: Role, implied: list[Role]) -> dict[str, Any]:
    return {"prior_role": _short(request, prior), "implies": [_short(request, role) for role in implied]}


def _pair(request: Request, prior: Role, implied: Role) -> dict[str, Any]:
    inference = {"prior_role": _short(request, prior), "implies": _short(request, implied)}
    return {"role_inference": inference, "links": views.list_links(request)}
