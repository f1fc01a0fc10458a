"""Version discovery: which versions of the identity API there are, and where."""

from typing import Any

from muster.api.http.requests import Request
from muster.api.http.responses import Response

_VERSION = "v3.14"
_UPDATED = "2020-04-07T00:00:00Z"


class Versions:
    """Answers without a token."""

    async def all(self, request: Request) -> Response:
        """`GET /`: 300 Multiple Choices, as Keystone does even with one version."""
        headers = {"Location": f"{request.base_url}/v3/"}
        return Response({"versions": {"values": [_version(request)]}}, status=300, headers=headers)

    async def v3(self, request: Request) -> Response:
        """`GET /v3`."""
        return Response({"version": _version(request)})


def _version(request: Request) -> dict[str, Any]:
    return {
        "id": _VERSION,
        "status": "stable",
        "updated": _UPDATED,
        "links": [{"rel": "self", "href": f"{request.base_url}/v3/"}],
        "media-types": [
            {"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"},
        ],
    }
