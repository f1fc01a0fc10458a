"""Version discovery of the compute API: the documents at its root, at its one version, and anywhere else."""

from typing import Any

from muster.api.http.requests import Request
from muster.api.http.responses import Response

LOWEST = (2, 1)
HIGHEST = (2, 90)

_MEDIA_TYPES = [{"base": "application/json", "type": "application/vnd.openstack.compute+json;version=2.1"}]
_GUIDE = {"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"}


def text(version: tuple[int, int]) -> str:
    """A version as headers and documents write it."""
    return f"{version[0]}.{version[1]}"


async def index(request: Request) -> Response:
    """All versions."""
    return Response({"versions": [_document(request)]})


async def show(request: Request) -> Response:
    """The one version."""
    document = _document(request)
    links = [*document["links"], _GUIDE]
    return Response({"version": {**document, "links": links, "media-types": _MEDIA_TYPES}})


async def choices(request: Request) -> Response:
    """Where what was asked for may be found, for a path outside of any version."""
    choice = {
        "id": "v2.1",
        "status": "CURRENT",
        "links": [{"rel": "self", "href": f"{request.base_url}/v2.1{request.path}"}],
        "media-types": _MEDIA_TYPES,
    }
    return Response({"choices": [choice]}, status=300)


def _document(request: Request) -> dict[str, Any]:
    return {
        "id": "v2.1",
        "status": "CURRENT",
        "version": text(HIGHEST),
        "min_version": text(LOWEST),
        "updated": "2013-07-23T11:33:21Z",
        "links": [{"rel": "self", "href": f"{request.base_url}/v2.1/"}],
    }
