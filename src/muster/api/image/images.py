"""Handlers of images, their tags and actions."""

from typing import Any

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.image.listing import links, parse_query
from muster.api.image.views import image_view
from muster.base.errors import Unsupported
from muster.domain.image_attributes import parse_draft
from muster.domain.image_patches import parse_patch
from muster.services.images import ImageService

# Content type of a patch to its dialect.
PATCH_TYPES = {
    "application/openstack-images-v2.1-json-patch": "2.1",
    "application/openstack-images-v2.0-json-patch": "2.0",
}


class Images:
    """Records of images."""

    def __init__(self, images: ImageService) -> None:
        self._images = images

    async def create(self, request: Request) -> Response:
        """`POST /v2/images`: 201 with the image, which waits for its content."""
        image = await self._images.create(request.context, parse_draft(await json_object(request)))
        location = f"{request.base_url}/v2/images/{image.id}"
        return Response(image_view(image), status=201, headers={"Location": location})

    async def list(self, request: Request) -> Response:
        """`GET /v2/images`: one page."""
        pairs = request.query
        query = parse_query(pairs)
        found = await self._images.list(request.context, query.wanted, query.page)
        views = [image_view(image) for image in found]
        return Response({"images": views, **links(pairs, query.page, found), "schema": "/v2/schemas/images"})

    async def show(self, request: Request) -> Response:
        """`GET /v2/images/{image_id}`."""
        return Response(image_view(await self._images.show(request.context, request.parameters["image_id"])))

    async def update(self, request: Request) -> Response:
        """`PATCH /v2/images/{image_id}` with a JSON patch; 415 for any other kind of body."""
        dialect = PATCH_TYPES.get(media_type(request))
        if dialect is None:
            raise Unsupported(f"The body must be one of: {', '.join(PATCH_TYPES)}", code="image.patch_type")
        changes = parse_patch(await request.json(Any), dialect=dialect)
        image = await self._images.update(request.context, request.parameters["image_id"], changes)
        return Response(image_view(image))

    async def delete(self, request: Request) -> Response:
        """`DELETE /v2/images/{image_id}`."""
        await self._images.delete(request.context, request.parameters["image_id"])
        return Response(status=204)

    async def deactivate(self, request: Request) -> Response:
        """`POST /v2/images/{image_id}/actions/deactivate`."""
        await self._images.deactivate(request.context, request.parameters["image_id"])
        return Response(status=204)

    async def reactivate(self, request: Request) -> Response:
        """`POST /v2/images/{image_id}/actions/reactivate`."""
        await self._images.reactivate(request.context, request.parameters["image_id"])
        return Response(status=204)

    async def add_tag(self, request: Request) -> Response:
        """`PUT /v2/images/{image_id}/tags/{tag}`."""
        await self._images.add_tag(request.context, request.parameters["image_id"], request.parameters["tag"])
        return Response(status=204)

    async def remove_tag(self, request: Request) -> Response:
        """`DELETE /v2/images/{image_id}/tags/{tag}`."""
        await self._images.remove_tag(request.context, request.parameters["image_id"], request.parameters["tag"])
        return Response(status=204)


def media_type(request: Request) -> str:
    """The type of the body without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def json_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object. Raises Invalid."""
    return await request.json(dict[str, Any])
