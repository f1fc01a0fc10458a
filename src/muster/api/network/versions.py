"""Version discovery: `/` and `/v2.0/`."""

from typing import Any

from muster.api.http.requests import Request
from muster.api.http.responses import Response

_COLLECTIONS = {
    "network": "networks",
    "subnet": "subnets",
    "port": "ports",
    "security-group": "security-groups",
    "security-group-rule": "security-group-rules",
    "quota": "quotas",
    "agent": "agents",
    "availability_zone": "availability_zones",
    "extension": "extensions",
}


class Versions:
    """Handlers."""

    async def list(self, request: Request) -> Response:
        """The versions that are offered."""
        return Response({"versions": [_version(request)]})

    async def show(self, request: Request) -> Response:
        """What v2.0 has."""
        resources = [
            {
                "name": name,
                "collection": collection,
                "links": [{"rel": "self", "href": f"{request.base_url}/v2.0/{collection}"}],
            }
            for name, collection in _COLLECTIONS.items()
        ]
        return Response({"resources": resources})


def _version(request: Request) -> dict[str, Any]:
    links = [{"rel": "self", "href": f"{request.base_url}/v2.0/"}]
    return {"id": "v2.0", "status": "CURRENT", "links": links}
