"""Servers over HTTP: create, list, show, change, delete."""

from typing import Any

from msgspec import UNSET

from muster.api.compute.bodies import parse
from muster.api.compute.paging import PageAsked, next_link
from muster.api.compute.server_bodies import Lookups, canonical
from muster.api.compute.server_listing import query_of
from muster.api.compute.server_schemas import SPANS, ChangedServerBody, RebuildBody, UpdateBody, check_fields
from muster.api.compute.server_views import alone, brief, changed, full, links
from muster.api.compute.services import Services
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.base.errors import Invalid, NotFound
from muster.domain.server_listing import ServerQuery
from muster.domain.servers import Asked, Server, Verb

# Field of a body -> field of a server; the same for changing and rebuilding one.
CHANGEABLE = {
    "name": "name",
    "description": "description",
    "hostname": "hostname",
    "accessIPv4": "access_ip_v4",
    "accessIPv6": "access_ip_v6",
    "disk_config": "disk_config",
}


class ServerHandlers:
    """Handlers of `/servers`."""

    def __init__(self, services: Services, lookups: Lookups) -> None:
        self._servers = services.servers
        self._changes = services.server_changes
        self._creation = services.creation
        self._orders = services.orders
        self._lookups = lookups
        self._clock = services.clock

    async def create(self, request: Request) -> Response:
        """Take a request for one or many servers."""
        wanted = await self._lookups.wanted(request)
        [first, *_] = await self._creation.create(wanted.drafts, least=wanted.least)
        if wanted.answers_reservation:
            return Response({"reservation_id": wanted.reservation_id}, status=202)
        server = {
            "id": first.id,
            "links": links(request, first.id),
            "OS-DCF:diskConfig": first.disk_config,
            "security_groups": [{"name": name} for name in wanted.groups],
            "adminPass": wanted.admin_password,
        }
        return Response({"server": server}, status=202, headers={"Location": links(request, first.id)[0]["href"]})

    async def index(self, request: Request) -> Response:
        """Names and ids."""
        query = query_of(request, interfaces=False)
        found = await self._page(query)
        return Response({"servers": [brief(request, server) for server in found], **_next(request, found, query)})

    async def detail(self, request: Request) -> Response:
        """In full."""
        query = query_of(request, interfaces=True)
        found, now = await self._page(query), self._clock()
        return Response({"servers": [full(request, server, now) for server in found], **_next(request, found, query)})

    async def show(self, request: Request) -> Response:
        """One server."""
        server = await self._servers.get(request.context, request.parameters["server_id"])
        return Response({"server": alone(request, server, self._clock())})

    async def update(self, request: Request) -> Response:
        """Change what a server is called and how it is described."""
        body = (await parse(request, UpdateBody)).server
        check_fields(body, SPANS, request.version)
        server_id = request.parameters["server_id"]
        server = await self._changes.update(request.context, server_id, changes_of(body))
        return Response({"server": changed(request, server, self._clock())})

    async def delete(self, request: Request) -> Response:
        """Delete a server; it is gone when `show` answers 404."""
        asked = Asked(verb=Verb.DELETE)
        await self._orders.ask(request.context, request.parameters["server_id"], asked, request.request_id)
        return Response(status=204)

    async def _page(self, query: ServerQuery | None) -> list[Server]:
        if query is None or query.limit == 0:
            return []
        try:
            return await self._servers.page(query)
        except NotFound as error:
            raise Invalid(error.message) from error


def changes_of(body: ChangedServerBody | RebuildBody) -> dict[str, Any]:
    """What a body sets, by the server's fields."""
    found = {column: getattr(body, name) for name, column in CHANGEABLE.items()}
    found |= {name: canonical(found[name]) for name in ("access_ip_v4", "access_ip_v6") if found[name]}
    return {column: value for column, value in found.items() if value is not UNSET}


def _next(request: Request, found: list[Server], query: ServerQuery | None) -> dict[str, object]:
    if query is None or not found:
        return {}
    return next_link(request, "servers", found, PageAsked(query.limit), found[-1].id)
