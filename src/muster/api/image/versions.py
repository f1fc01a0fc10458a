"""Version discovery: which versions of the image API there are, and where."""

from typing import Any

from muster.api.http.requests import Request
from muster.api.http.responses import Response

# 2.9 is the newest that promises neither several stores nor a cache.
_CURRENT = 9


class Versions:
    """Answers without a token."""

    async def choices(self, request: Request) -> Response:
        """`GET /`: 300 Multiple Choices, whatever the number of versions."""
        return Response(_versions(request), status=300)

    async def list(self, request: Request) -> Response:
        """`GET /versions` and `GET /v2`."""
        return Response(_versions(request))


def _versions(request: Request) -> dict[str, Any]:
    links = [{"rel": "self", "href": f"{request.base_url}/v2/"}]
    return {
        "versions": [
            {"id": f"v2.{minor}", "status": "CURRENT" if minor == _CURRENT else "SUPPORTED", "links": links}
            for minor in range(_CURRENT, -1, -1)
        ]
    }
