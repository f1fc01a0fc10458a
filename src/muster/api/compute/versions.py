"""Version discovery of the compute API."""

from typing import Any

from muster.api.compute.microversions import HIGHEST, LOWEST, text
from muster.api.http.requests import Request
from muster.api.http.responses import Response


def _document(request: Request) -> dict[str, Any]:
    return {
        "id": "v2.1",
        "status": "CURRENT",
        "version": text(HIGHEST),
        "min_version": text(LOWEST),
        "updated": "2013-07-23T11:33:21Z",
        "links": [{"rel": "self", "href": f"{request.base_url}/v2.1/"}],
    }


async def index(request: Request) -> Response:
    """All versions."""
    return Response({"versions": [_document(request)]})


async def show(request: Request) -> Response:
    """The one version."""
    types = [{"base": "application/json", "type": "application/vnd.openstack.compute+json;version=2.1"}]
    return Response({"version": {**_document(request), "media-types": types}})
