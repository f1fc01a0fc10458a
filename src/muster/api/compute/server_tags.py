"""A server's tags over HTTP: all of them, and one by one."""

from typing import Annotated
from urllib.parse import quote

from msgspec import Meta, Struct

from muster.api.compute.bodies import Tag, parse
from muster.api.compute.services import Services
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.base.errors import Invalid, NotFound
from muster.services.server_changes import TAGS_LIMIT


class TagsBody(Struct, forbid_unknown_fields=True):
    """Tags."""

    tags: Annotated[list[Tag], Meta(max_length=TAGS_LIMIT)]


class ServerTagHandlers:
    """Handlers of `/servers/{server_id}/tags`."""

    def __init__(self, services: Services) -> None:
        self._servers = services.servers
        self._changes = services.server_changes

    async def index(self, request: Request) -> Response:
        """All tags."""
        return Response({"tags": list(await self._tags(request))})

    async def show(self, request: Request) -> Response:
        """Whether a server has a tag: 204 or 404."""
        if request.parameters["tag"] not in await self._tags(request):
            raise _missing(request)
        return Response(status=204)

    async def replace(self, request: Request) -> Response:
        """Put new tags in the place of all there were."""
        wanted = (await parse(request, TagsBody)).tags
        tags = await self._changes.change_tags(request.context, _server_id(request), lambda _: wanted, "update tags")
        return Response({"tags": list(tags)})

    async def add(self, request: Request) -> Response:
        """Give a server a tag: 201, or 204 if it has it already."""
        if await request.body():
            raise Invalid("Invalid input: a tag is set without a body.")
        tag = request.parameters["tag"]
        if not 1 <= len(tag) <= 60 or "," in tag or "/" in tag:
            raise Invalid(
                f"Tag '{tag[:64]}' is invalid. It must be a non empty string without characters '/' and ',' of at "
                "most 60 characters."
            )
        before: list[bool] = []

        def with_tag(present: tuple[str, ...]) -> tuple[str, ...]:
            before[:] = [tag in present]
            return (*present, tag)

        await self._changes.change_tags(request.context, _server_id(request), with_tag, "update tag")
        if before[0]:
            return Response(status=204)
        location = f"{request.base_url}/v2.1/servers/{_server_id(request)}/tags/{quote(tag, safe='')}"
        return Response(status=201, headers={"Location": location})

    async def delete(self, request: Request) -> Response:
        """Take a tag from a server."""
        tag = request.parameters["tag"]

        def without(present: tuple[str, ...]) -> tuple[str, ...]:
            if tag not in present:
                raise _missing(request)
            return tuple(one for one in present if one != tag)

        await self._changes.change_tags(request.context, _server_id(request), without, "delete tag")
        return Response(status=204)

    async def delete_all(self, request: Request) -> Response:
        """Take all tags from a server."""
        await self._changes.change_tags(request.context, _server_id(request), lambda _: (), "delete tags")
        return Response(status=204)

    async def _tags(self, request: Request) -> tuple[str, ...]:
        return (await self._servers.get(request.context, _server_id(request))).tags


def _server_id(request: Request) -> str:
    return request.parameters["server_id"]


def _missing(request: Request) -> NotFound:
    tag = request.parameters["tag"]
    return NotFound(f"Server {_server_id(request)} has no tag '{tag[:64]}'")
