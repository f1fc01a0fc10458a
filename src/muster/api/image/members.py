"""Handlers of the projects that images are shared with."""

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.image.images import json_object
from muster.api.image.views import member_view
from muster.base.errors import Invalid
from muster.domain.image_attributes import is_storable
from muster.domain.images import MemberStatus
from muster.services.image_members import ImageMembers

_ID_LENGTH = 255


class Members:
    """Members of images."""

    def __init__(self, members: ImageMembers) -> None:
        self._members = members

    async def add(self, request: Request) -> Response:
        """`POST /v2/images/{image_id}/members` with `{"member": <project id>}`: 200, as the Image service answers."""
        body = await json_object(request)
        member_id = body.get("member")
        if not isinstance(member_id, str) or not member_id:
            raise Invalid("Member to be added not specified")
        if len(member_id) > _ID_LENGTH or not is_storable(member_id):
            raise Invalid("The member is not a valid id of a project")
        image_id = request.parameters["image_id"]
        return Response(member_view(await self._members.add(request.context, image_id, member_id)))

    async def list(self, request: Request) -> Response:
        """`GET /v2/images/{image_id}/members`."""
        members = await self._members.list(request.context, request.parameters["image_id"])
        return Response({"members": [member_view(member) for member in members], "schema": "/v2/schemas/members"})

    async def show(self, request: Request) -> Response:
        """`GET /v2/images/{image_id}/members/{member_id}`."""
        return Response(member_view(await self._members.show(request.context, *_ids(request))))

    async def update(self, request: Request) -> Response:
        """`PUT /v2/images/{image_id}/members/{member_id}` with `{"status": ...}`."""
        body = await json_object(request)
        if "status" not in body:
            raise Invalid("Status not specified")
        if body["status"] not in [str(status) for status in MemberStatus]:
            raise Invalid(f"Invalid status: {body['status']!s:.100}. It must be one of: {', '.join(MemberStatus)}")
        status = MemberStatus(body["status"])
        return Response(member_view(await self._members.update(request.context, *_ids(request), status)))

    async def remove(self, request: Request) -> Response:
        """`DELETE /v2/images/{image_id}/members/{member_id}`."""
        await self._members.remove(request.context, *_ids(request))
        return Response(status=204)


def _ids(request: Request) -> tuple[str, str]:
    return request.parameters["image_id"], request.parameters["member_id"]
