"""What Nova has under a server and this cloud has nothing of: passwords, volumes, graphical consoles,
migrations. Answered as a Nova answers whose hypervisor has none of it, so that clients go on."""

from muster.api.compute.services import Services
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.base.errors import Invalid
from muster.domain.servers import Server


class ServerRemainHandlers:
    """Handlers of what there is nothing of."""

    def __init__(self, services: Services) -> None:
        self._servers = services.servers

    async def password(self, request: Request) -> Response:
        """The encrypted password that a guest has told: none ever does."""
        await self._server(request)
        return Response({"password": ""})

    async def clear_password(self, request: Request) -> Response:
        """Forget the guest's password."""
        await self._server(request)
        return Response(status=204)

    async def volumes(self, request: Request) -> Response:
        """The attached volumes: there are none."""
        await self._server(request)
        return Response({"volumeAttachments": []})

    async def no_volumes(self, request: Request) -> Response:
        """Attach a volume. Raises Invalid."""
        await self._server(request)
        raise Invalid("This cloud has no volumes.")

    async def no_consoles(self, request: Request) -> Response:
        """Open a graphical or serial console. Raises Invalid."""
        await self._server(request)
        raise Invalid("This cloud has no remote consoles; read the console's log (openstack console log show).")

    async def migrations(self, request: Request) -> Response:
        """The migrations under way: a server stays on its host."""
        await self._server(request)
        return Response({"migrations": []})

    async def topology(self, request: Request) -> Response:
        """The NUMA nodes of a guest: one that is told of none."""
        await self._server(request)
        return Response({"nodes": [], "pagesize_kb": None})

    async def _server(self, request: Request) -> Server:
        return await self._servers.get(request.context, request.parameters["server_id"])
