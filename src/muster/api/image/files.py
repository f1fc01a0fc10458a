"""Handlers of images' content: bytes are streamed, never held in memory whole."""

import re

from muster.api.http.requests import Request
from muster.api.http.responses import Response, StreamResponse
from muster.api.image.images import media_type
from muster.base.errors import Invalid, Unsupported
from muster.domain.images import Image
from muster.services.image_files import Reader
from muster.services.image_uploads import ImageUploads
from muster.services.images import ImageService

OCTETS = "application/octet-stream"
# Where a client says how long its content will be, whatever its transfer encoding.
SIZE_HEADERS = ("x-openstack-image-size", "x-image-meta-size", "content-length")

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


class Files:
    """Content of images."""

    def __init__(self, images: ImageService, uploads: ImageUploads) -> None:
        self._images = images
        self._uploads = uploads

    async def upload(self, request: Request) -> Response:
        """`PUT /v2/images/{image_id}/file`."""
        if media_type(request) != OCTETS:
            raise Unsupported(f"The body must be {OCTETS}")
        image_id, size = request.parameters["image_id"], _declared_size(request)
        await self._uploads.upload(request.context, image_id, request.stream(), size)
        return Response(status=204)

    async def download(self, request: Request) -> Response:
        """`GET /v2/images/{image_id}/file`: 200, 206 for a range, 204 while there is no content, 416."""
        found = await self._images.download(request.context, request.parameters["image_id"])
        if found.reader is None:
            return Response(status=204)
        return content(found.image, found.reader, request.headers.get("range"))


def content(image: Image | None, reader: Reader, wanted_range: str | None) -> Response:
    """An image's file, or a range of it, as a response that closes it. Without `image`, without its digests."""
    headers = {"Content-Type": OCTETS, "Accept-Ranges": "bytes", "X-Openstack-Image-Size": str(reader.size)}
    if image is not None:
        headers["X-Openstack-Image-Hash-Algo"] = image.os_hash_algo or ""
        headers["X-Openstack-Image-Hash-Value"] = image.os_hash_value or ""
    wanted = parse_range(wanted_range, reader.size)
    if wanted is None:
        headers["Content-Length"] = str(reader.size)
        if image is not None:
            headers["Content-MD5"] = image.checksum or ""
        return StreamResponse(reader.parts(), headers=headers)
    start, end = wanted
    if start >= end:
        reader.close()
        return _unsatisfiable(reader.size)
    headers |= {"Content-Length": str(end - start), "Content-Range": f"bytes {start}-{end - 1}/{reader.size}"}
    return StreamResponse(reader.parts(start, end), status=206, headers=headers)


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Start and end (not included) of what is asked for; empty if the file has none of it; None for all of it.

    What is no single range of bytes is ignored, as RFC 9110 section 14.2 allows.
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        return max(0, size - int(match[2])), size
    start, end = int(match[1]), int(match[2]) + 1 if match[2] else size
    return None if match[2] and end <= start else (start, min(end, size))


def _unsatisfiable(size: int) -> Response:
    body = {
        "message": "The requested range cannot be satisfied.",
        "code": "416 Requested Range Not Satisfiable",
        "title": "Requested Range Not Satisfiable",
    }
    return Response(body, status=416, headers={"Content-Range": f"bytes */{size}"})


def _declared_size(request: Request) -> int | None:
    """Raises Invalid for headers that are no sizes or contradict each other."""
    sizes = set()
    for name in SIZE_HEADERS:
        text = request.headers.get(name)
        if text is not None:
            if not text.isascii() or not text.isdigit() or len(text) > 19:
                raise Invalid(f"The header {name} is not a size")
            sizes.add(int(text))
    if len(sizes) > 1:
        raise Invalid(f"The sizes that are declared contradict each other: {', '.join(map(str, sorted(sizes)))} bytes")
    return sizes.pop() if sizes else None
