"""A server's metadata over HTTP: all of it, and item by item."""

from collections.abc import Callable
from typing import Annotated

from msgspec import Meta, Struct

from muster.api.compute.bodies import Metadata, parse
from muster.api.compute.services import Services
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.base.errors import Invalid, NotFound

_MISSING = "Metadata item was not found"


class MetadataBody(Struct, forbid_unknown_fields=True):
    """Items."""

    metadata: Metadata


class ItemBody(Struct, forbid_unknown_fields=True):
    """One item."""

    meta: Annotated[Metadata, Meta(min_length=1, max_length=1)]


class ServerMetadataHandlers:
    """Handlers of `/servers/{server_id}/metadata`."""

    def __init__(self, services: Services) -> None:
        self._servers = services.servers
        self._changes = services.server_changes

    async def index(self, request: Request) -> Response:
        """All items."""
        return Response({"metadata": (await self._servers.get(request.context, _server_id(request))).metadata})

    async def show(self, request: Request) -> Response:
        """One item."""
        key = request.parameters["key"]
        metadata = (await self._servers.get(request.context, _server_id(request))).metadata
        if key not in metadata:
            raise NotFound(_MISSING)
        return Response({"meta": {key: metadata[key]}})

    async def replace(self, request: Request) -> Response:
        """Put new items in the place of all there were."""
        items = (await parse(request, MetadataBody)).metadata
        return Response({"metadata": await self._change(request, lambda _: items)})

    async def merge(self, request: Request) -> Response:
        """Add items, or change some."""
        items = (await parse(request, MetadataBody)).metadata
        return Response({"metadata": await self._change(request, lambda present: present | items)})

    async def update(self, request: Request) -> Response:
        """Set one item."""
        item = (await parse(request, ItemBody)).meta
        if request.parameters["key"] not in item:
            raise Invalid("Request body and URI mismatch")
        await self._change(request, lambda present: present | item)
        return Response({"meta": item})

    async def delete(self, request: Request) -> Response:
        """Remove one item."""
        key = request.parameters["key"]

        def without(present: dict[str, str]) -> dict[str, str]:
            if key not in present:
                raise NotFound(_MISSING)
            return {name: value for name, value in present.items() if name != key}

        await self._changes.change_metadata(request.context, _server_id(request), without, "delete metadata")
        return Response(status=204)

    async def _change(self, request: Request, change: "_Change") -> dict[str, str]:
        return await self._changes.change_metadata(request.context, _server_id(request), change, "update metadata")


_Change = Callable[[dict[str, str]], dict[str, str]]


def _server_id(request: Request) -> str:
    return request.parameters["server_id"]
