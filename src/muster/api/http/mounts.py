"""All APIs behind one port: the first segment of the path chooses the application; `/metrics` is none."""

from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from muster.api.http.metrics import metrics_response
from muster.api.http.responses import Response


class Mounts:
    """The outermost ASGI application. `mounts` maps a prefix (`/compute`) to the application behind it.

    The application sees the path without the prefix; `scope["api_prefix"]` tells it, for links.
    """

    def __init__(self, mounts: Mapping[str, ASGIApp]) -> None:
        self._mounts = {prefix.strip("/"): application for prefix, application in mounts.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/metrics":
            await metrics_response(scope).send(send)
            return
        prefix, _, rest = scope["path"].lstrip("/").partition("/")
        application = self._mounts.get(prefix)
        if application is None:
            apis = {name: f"/{name}" for name in sorted(self._mounts)}
            await Response({"message": "Muster", "apis": apis}, status=200 if not prefix else 404).send(send)
            return
        await application({**scope, "path": "/" + rest, "api_prefix": "/" + prefix}, receive, send)
