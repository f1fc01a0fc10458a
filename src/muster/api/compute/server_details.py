"""A server's parts under its own path: metadata, tags, addresses. A locked server changes for admins alone."""

from msgspec import Struct

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.http.routing import Route, Routes
from muster.base.errors import Conflict, Invalid
from muster.domain.policies import Rule
from muster.domain.servers import Server
from muster.services.servers import Servers


class MetadataBody(Struct, forbid_unknown_fields=True):
    """The body of a change to metadata."""

    metadata: dict[str, str]


class TagsBody(Struct, forbid_unknown_fields=True):
    """The body that replaces tags."""

    tags: list[str]


class ServerDetailHandlers:
    """Handlers of `/servers/{server_id}/metadata`, `/tags` and `/os-interface`."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers

    async def metadata(self, request: Request) -> Response:
        """All metadata of a server."""
        return Response({"metadata": (await self._server(request)).metadata})

    async def replace_metadata(self, request: Request) -> Response:
        """Put new metadata in the place of all there was."""
        return await self._write_metadata(request, (await request.json(MetadataBody)).metadata)

    async def merge_metadata(self, request: Request) -> Response:
        """Add to metadata, or change some of it."""
        body = await request.json(MetadataBody)
        return await self._write_metadata(request, (await self._server(request)).metadata | body.metadata)

    async def tags(self, request: Request) -> Response:
        """All tags of a server."""
        return Response({"tags": list((await self._server(request)).tags)})

    async def replace_tags(self, request: Request) -> Response:
        """Put new tags in the place of all there were."""
        tags = list(dict.fromkeys((await request.json(TagsBody)).tags))
        if len(tags) > 50 or any(not 1 <= len(tag) <= 60 or set(tag) & {"/", ",", "\x00"} for tag in tags):
            raise Invalid("A server has at most 50 tags of 1 to 60 characters, without '/' and ','.")
        _unlocked(request, await self._server(request))
        await self._servers.set_tags(request.context, request.parameters["server_id"], tags)
        return Response({"tags": tags})

    async def interfaces(self, request: Request) -> Response:
        """The ports of a server."""
        shown = [
            {
                "port_id": one.port_id,
                "net_id": one.network_id,
                "mac_addr": one.mac_address,
                "port_state": "ACTIVE",
                "fixed_ips": [{"subnet_id": ip.subnet_id, "ip_address": ip.ip_address} for ip in one.fixed_ips],
            }
            for one in (await self._server(request)).interfaces
        ]
        return Response({"interfaceAttachments": shown})

    async def _server(self, request: Request) -> Server:
        return await self._servers.get(request.context, request.parameters["server_id"])

    async def _write_metadata(self, request: Request, metadata: dict[str, str]) -> Response:
        texts = [text for pair in metadata.items() for text in pair]
        if len(metadata) > 128 or "" in metadata or any(len(text) > 255 or "\x00" in text for text in texts):
            raise Invalid("Metadata may have 128 entries of 255 characters.")
        _unlocked(request, await self._server(request))
        server_id = request.parameters["server_id"]
        server = await self._servers.update(request.context, server_id, {"metadata": metadata})
        return Response({"metadata": server.metadata})


def server_detail_routes(servers: Servers) -> Routes:
    """Method and path to handler and rule, to be joined with the compute API's table."""
    handlers = ServerDetailHandlers(servers)
    base = "/v2.1/servers/{server_id}"
    return {
        ("GET", f"{base}/metadata"): Route(handlers.metadata, Rule.PROJECT_READER),
        ("PUT", f"{base}/metadata"): Route(handlers.replace_metadata, Rule.PROJECT_MEMBER),
        ("POST", f"{base}/metadata"): Route(handlers.merge_metadata, Rule.PROJECT_MEMBER),
        ("GET", f"{base}/tags"): Route(handlers.tags, Rule.PROJECT_READER),
        ("PUT", f"{base}/tags"): Route(handlers.replace_tags, Rule.PROJECT_MEMBER),
        ("GET", f"{base}/os-interface"): Route(handlers.interfaces, Rule.PROJECT_READER),
    }


def _unlocked(request: Request, server: Server) -> None:
    if server.locked and not request.context.is_admin:
        raise Conflict(f"Instance {server.id} is locked")
