"""`/v3/groups`."""

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.identity import views
from muster.api.identity.bodies import read_new, read_patch
from muster.domain.attribute_filters import parse_filters, parse_page
from muster.domain.groups import GROUP_FILTERS
from muster.domain.patches import GroupPatch
from muster.domain.users import USER_FILTERS
from muster.services.groups import Groups


class GroupsApi:
    """`/v3/groups`."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups

    async def create(self, request: Request) -> Response:
        """`POST /v3/groups`."""
        group = await self._groups.create(request.context, await read_new(request, "group", GroupPatch))
        return Response({"group": views.group(request, group)}, status=201)

    async def list(self, request: Request) -> Response:
        """`GET /v3/groups`."""
        found = await self._groups.list_page(parse_filters(request.query, GROUP_FILTERS), parse_page(request.query))
        return views.collection(request, "groups", found, views.group)

    async def show(self, request: Request) -> Response:
        """`GET /v3/groups/{group_id}`."""
        group = await self._groups.show(request.parameters["group_id"])
        return Response({"group": views.group(request, group)})

    async def update(self, request: Request) -> Response:
        """`PATCH /v3/groups/{group_id}`."""
        patch = await read_patch(request, "group", GroupPatch)
        group = await self._groups.update(request.parameters["group_id"], patch)
        return Response({"group": views.group(request, group)})

    async def delete(self, request: Request) -> Response:
        """`DELETE /v3/groups/{group_id}`."""
        await self._groups.delete(request.parameters["group_id"])
        return Response(status=204)

    async def members(self, request: Request) -> Response:
        """`GET /v3/groups/{group_id}/users`."""
        filters = parse_filters(request.query, USER_FILTERS, ["enabled"])
        found = await self._groups.members(request.parameters["group_id"], filters, parse_page(request.query))
        return views.collection(request, "users", found, views.user)

    async def add_member(self, request: Request) -> Response:
        """`PUT /v3/groups/{group_id}/users/{user_id}`."""
        await self._groups.add_member(request.parameters["group_id"], request.parameters["user_id"])
        return Response(status=204)

    async def check_member(self, request: Request) -> Response:
        """`HEAD /v3/groups/{group_id}/users/{user_id}`."""
        parameters = request.parameters
        await self._groups.check_member(request.context, parameters["group_id"], parameters["user_id"])
        return Response(status=204)

    async def remove_member(self, request: Request) -> Response:
        """`DELETE /v3/groups/{group_id}/users/{user_id}`."""
        await self._groups.remove_member(request.parameters["group_id"], request.parameters["user_id"])
        return Response(status=204)
