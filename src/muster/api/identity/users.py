"""`/v3/users`."""

from msgspec import Struct

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.identity import views
from muster.api.identity.bodies import read_member, read_new, read_patch, typed
from muster.domain.attribute_filters import parse_filters, parse_page
from muster.domain.groups import GROUP_FILTERS
from muster.domain.patches import UserPatch
from muster.domain.users import USER_FILTERS
from muster.services.users import Users


class _NewPassword(Struct):
    password: str
    original_password: str

    def __repr__(self) -> str:
        return "_NewPassword(...)"


class UsersApi:
    """`/v3/users`."""

    def __init__(self, users: Users) -> None:
        self._users = users

    async def create(self, request: Request) -> Response:
        """`POST /v3/users`."""
        user = await self._users.create(request.context, await read_new(request, "user", UserPatch))
        return Response({"user": views.user(request, user)}, status=201)

    async def list(self, request: Request) -> Response:
        """`GET /v3/users`."""
        filters = parse_filters(request.query, USER_FILTERS, ["enabled"])
        return views.collection(
            request, "users", await self._users.list_page(filters, parse_page(request.query)), views.user
        )

    async def show(self, request: Request) -> Response:
        """`GET /v3/users/{user_id}`."""
        user = await self._users.show(request.context, request.parameters["user_id"])
        return Response({"user": views.user(request, user)})

    async def update(self, request: Request) -> Response:
        """`PATCH /v3/users/{user_id}`."""
        patch = await read_patch(request, "user", UserPatch)
        user = await self._users.update(request.parameters["user_id"], patch)
        return Response({"user": views.user(request, user)})

    async def delete(self, request: Request) -> Response:
        """`DELETE /v3/users/{user_id}`."""
        await self._users.delete(request.parameters["user_id"])
        return Response(status=204)

    async def change_password(self, request: Request) -> Response:
        """`POST /v3/users/{user_id}/password`: needs no token, the original password is the proof."""
        body = typed(await read_member(request, "user"), _NewPassword, "user")
        await self._users.change_password(request.parameters["user_id"], body.original_password, body.password)
        return Response(status=204)

    async def groups(self, request: Request) -> Response:
        """`GET /v3/users/{user_id}/groups`."""
        filters = parse_filters(request.query, GROUP_FILTERS)
        user_id, page = request.parameters["user_id"], parse_page(request.query)
        found = await self._users.groups(request.context, user_id, filters, page)
        return views.collection(request, "groups", found, views.group)
