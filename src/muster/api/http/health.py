"""What load balancers and people ask without a token: whether a process is alive, and whether it can do its work."""

from typing import Any, Protocol

from starlette.types import Scope

from muster.api.http.responses import Response

ALIVE = "/healthcheck"
READY = "/healthcheck/ready"
_METHODS = ("GET", "HEAD")


class Judge(Protocol):
    """Knows what does not answer; see `services.readiness`."""

    async def faults(self) -> dict[str, str]: ...


async def health_response(scope: Scope, judge: Judge | None) -> Response:
    """The answer on one of the two paths: 200, or 503 with what does not answer. Costs what `judge` costs."""
    if scope["method"] not in _METHODS:
        return Response({"message": "Method not allowed"}, status=405, headers={"Allow": ", ".join(_METHODS)})
    faults = await judge.faults() if scope["path"] == READY and judge is not None else {}
    body: dict[str, Any] = {"status": "ok"} if not faults else {"status": "not ready", "reasons": faults}
    response = Response(body, status=503 if faults else 200)
    if scope["method"] == "HEAD":
        response.headers["Content-Length"], response.body = str(len(response.body)), b""
    return response
