"""What can be asked of a server: `POST /servers/{id}/action`, and the record of what was asked."""

from typing import Any

from muster.api.compute.services import Services
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.base.errors import Invalid
from muster.base.ids import is_uuid
from muster.base.units import iso
from muster.domain.servers import Asked, Verb


class ServerActionHandlers:
    """Handlers of a server's actions."""

    def __init__(self, services: Services) -> None:
        self._servers = services.servers
        self._orders = services.orders
        self._images = services.images

    async def act(self, request: Request) -> Response:
        """One action, named by the only key of the body."""
        body = await request.json(dict[str, Any])
        if len(body) != 1:
            raise Invalid("The body must name exactly one action.")
        [(name, details)] = body.items()
        asked = await self._asked(request, name, details)
        server = await self._orders.ask(request.context, request.parameters["server_id"], asked, request.request_id)
        if asked.verb is Verb.REBUILD:
            return Response({"server": {"id": server.id, "status": server.status}}, status=202)
        return Response(status=202)

    async def index(self, request: Request) -> Response:
        """What was asked of a server, newest first."""
        found = await self._servers.actions(request.context, request.parameters["server_id"])
        shown = [
            {
                "action": one.action,
                "instance_uuid": one.server_id,
                "request_id": one.request_id,
                "user_id": one.user_id,
                "project_id": one.project_id,
                "start_time": iso(one.started_at),
                "updated_at": iso(one.updated_at),
                "message": one.message,
            }
            for one in found
        ]
        return Response({"instanceActions": shown})

    async def _asked(self, request: Request, name: str, details: Any) -> Asked:
        if name == "os-stop":
            return Asked(verb=Verb.STOP)
        if name == "os-start":
            return Asked(verb=Verb.START)
        if not isinstance(details, dict):
            raise Invalid(f"There is no such action: {name}" if details is None else f"{name} needs details.")
        if name == "reboot":
            kind = str(details.get("type", "")).upper()
            if kind not in ("SOFT", "HARD"):
                raise Invalid("Invalid input for field/attribute type: it must be SOFT or HARD.")
            return Asked(verb=Verb.REBOOT, hard=kind == "HARD")
        if name == "rebuild":
            image_id = str(details.get("imageRef", "")).rsplit("/", 1)[-1]
            if not is_uuid(image_id) or set(details) - {"imageRef", "adminPass", "OS-DCF:diskConfig"}:
                raise Invalid("rebuild takes an imageRef; other changes are not offered yet.")
            return Asked(verb=Verb.REBUILD, image=await self._images.spec(request.context, image_id))
        raise Invalid(f"There is no such action: {name[:64]}")
