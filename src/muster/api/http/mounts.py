"""All APIs behind one port: the first segment of the path chooses the application; metrics and health are none."""

from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from muster.api.http.health import ALIVE, READY, Judge, health_response
from muster.api.http.metrics import is_local, metrics_response
from muster.api.http.responses import Response


class Mounts:
    """The outermost ASGI application. `mounts` maps a prefix (`/compute`) to the application behind it.

    The application sees the path without the prefix; `scope["api_prefix"]` tells it, for links. `judge` knows whether
    this process can do its work; without one it always can. Several processes behind one port have no metrics here:
    nobody could say whose they are.
    """

    def __init__(self, mounts: Mapping[str, ASGIApp], judge: Judge | None = None, *, with_metrics: bool = True) -> None:
        self._judge = judge
        self._with_metrics = with_metrics
        self._mounts = {prefix.strip("/"): application for prefix, application in mounts.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if (response := await self._beside(scope)) is not None:
            await response.send(send)
            return
        prefix, _, rest = scope["path"].lstrip("/").partition("/")
        application = self._mounts.get(prefix)
        if application is None:
            apis = {name: f"/{name}" for name in sorted(self._mounts)}
            await Response({"message": "Muster", "apis": apis}, status=200 if not prefix else 404).send(send)
            return
        await application({**scope, "path": "/" + rest, "api_prefix": "/" + prefix}, receive, send)

    async def _beside(self, scope: Scope) -> Response | None:
        """What is no API's."""
        match scope["path"]:
            case "/metrics" if self._with_metrics:
                return metrics_response(scope) if is_local(scope) else Response({"message": "Not found"}, status=404)
            case str(path) if path in (ALIVE, READY):
                return await health_response(scope, self._judge)
        return None
