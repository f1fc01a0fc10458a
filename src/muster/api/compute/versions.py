"""Version discovery of the compute API: the documents at its root, at its one version, and anywhere else."""

from typing import Any

from starlette.types import Scope

from muster.api.http.requests import Request
from muster.api.http.responses import Response

LOWEST = (2, 1)
HIGHEST = (2, 96)

_GUIDE = {"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"}
_LEGACY, _CURRENT = "v2.0", "v2.1"
_HEADERS = (b"openstack-api-version", b"x-openstack-nova-api-version")


def without_microversions(scope: Scope) -> Scope:
    """A request below `/v2`, the API's first name: as one below `/v2.1` that names no version. Others as they are."""
    path: str = scope["path"]
    if path != "/v2" and not path.startswith("/v2/"):
        return scope
    headers = [(name, value) for name, value in scope["headers"] if name.lower() not in _HEADERS]
    return {**scope, "path": "/v2.1" + path[len("/v2") :], "headers": headers, "compute.version": _LEGACY}


def text(version: tuple[int, int]) -> str:
    """A version as headers and documents write it."""
    return f"{version[0]}.{version[1]}"


async def index(request: Request) -> Response:
    """All versions."""
    return Response({"versions": [_document(request, version) for version in (_LEGACY, _CURRENT)]})


async def show(request: Request) -> Response:
    """The version below which the path is."""
    version = request.scope.get("compute.version", _CURRENT)
    document = _document(request, version)
    shown = {**document, "links": [*document["links"], _GUIDE], "media-types": _media_types(version)}
    return Response({"version": shown})


async def choices(request: Request) -> Response:
    """Where what was asked for may be found, for a path outside of any version."""
    found = [
        {
            "id": version,
            "status": _document(request, version)["status"],
            "links": [{"rel": "self", "href": f"{_root(request, version)}{request.path.lstrip('/')}"}],
            "media-types": _media_types(version),
        }
        for version in (_LEGACY, _CURRENT)
    ]
    return Response({"choices": found}, status=300)


def _document(request: Request, version: str) -> dict[str, Any]:
    current = version == _CURRENT
    return {
        "id": version,
        "status": "CURRENT" if current else "SUPPORTED",
        "version": text(HIGHEST) if current else "",
        "min_version": text(LOWEST) if current else "",
        "updated": "2013-07-23T11:33:21Z" if current else "2011-01-21T11:33:21Z",
        "links": [{"rel": "self", "href": _root(request, version)}],
    }


def _root(request: Request, version: str) -> str:
    return f"{request.base_url}/{version.removesuffix('.0')}/"


def _media_types(version: str) -> list[dict[str, str]]:
    number = version.removeprefix("v").removesuffix(".0")
    return [{"base": "application/json", "type": f"application/vnd.openstack.compute+json;version={number}"}]
