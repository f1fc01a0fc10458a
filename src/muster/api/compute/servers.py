"""Servers over HTTP: create, list, show, delete."""

from urllib.parse import urlencode

from muster.api.compute.server_bodies import Lookups
from muster.api.compute.server_views import brief, full, links
from muster.api.compute.services import Services
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.base.errors import Forbidden, Invalid
from muster.base.units import parse_iso
from muster.domain.servers import Asked, Server, Verb
from muster.store.servers import ServerQuery

PAGE_LIMIT = 1_000

_VM_STATES = {
    "active": ("active",),
    "build": ("building",),
    "shutoff": ("stopped",),
    "error": ("error",),
    "deleted": ("deleted",),
}
_FILTERS = {
    "name": "name",
    "flavor": "flavor_id",
    "image": "image_id",
    "uuid": "uuid",
    "reservation_id": "reservation_id",
    "user_id": "user_id",
    "key_name": "key_name",
    "description": "description",
}


class ServerHandlers:
    """Handlers of `/servers`."""

    def __init__(self, services: Services, lookups: Lookups) -> None:
        self._servers = services.servers
        self._creation = services.creation
        self._orders = services.orders
        self._lookups = lookups

    async def create(self, request: Request) -> Response:
        """Take a request for one or many servers."""
        wanted = await self._lookups.wanted(request)
        [first, *_] = await self._creation.create(wanted.drafts)
        if wanted.answers_reservation:
            return Response({"reservation_id": wanted.reservation_id}, status=202)
        server = {
            "id": first.id,
            "links": links(request, first.id),
            "OS-DCF:diskConfig": first.disk_config,
            "security_groups": [{"name": "default"}],
            "adminPass": wanted.admin_password,
        }
        return Response({"server": server}, status=202, headers={"Location": links(request, first.id)[0]["href"]})

    async def index(self, request: Request) -> Response:
        """Names and ids."""
        found, query = await self._page(request, interfaces=False)
        return Response({"servers": [brief(request, server) for server in found], **_next(request, found, query)})

    async def detail(self, request: Request) -> Response:
        """In full."""
        found, query = await self._page(request, interfaces=True)
        return Response({"servers": [full(request, server) for server in found], **_next(request, found, query)})

    async def show(self, request: Request) -> Response:
        """One server."""
        server = await self._servers.get(request.context, request.parameters["server_id"])
        return Response({"server": full(request, server)})

    async def delete(self, request: Request) -> Response:
        """Delete a server; it is gone when `show` answers 404."""
        asked = Asked(verb=Verb.DELETE)
        await self._orders.ask(request.context, request.parameters["server_id"], asked, request.request_id)
        return Response(status=204)

    async def _page(self, request: Request, *, interfaces: bool) -> tuple[list[Server], ServerQuery]:
        query = _query(request, interfaces=interfaces)
        if query.vm_states == ("nothing",):
            return [], query
        return await self._servers.page(query), query


def _query(request: Request, *, interfaces: bool) -> ServerQuery:
    asked = dict(request.query)
    context = request.context
    everyone = _truth(asked.get("all_tenants", asked.get("all_projects", "false")))
    if everyone and not context.is_admin:
        raise Forbidden("Policy doesn't allow os_compute_api:servers:detail:get_all_tenants to be performed.")
    project_id = asked.get("project_id", asked.get("tenant_id")) if everyone else context.project_id
    filters = {column: asked[name] for name, column in _FILTERS.items() if name in asked}
    if context.is_admin and "host" in asked:
        filters["host"] = asked["host"]
    if any("\x00" in value for value in asked.values()):
        raise Invalid("Text may not contain NUL characters.")
    return ServerQuery(
        project_id=project_id,
        filters=filters,
        vm_states=_states(asked.get("status")),
        changes_since=_moment(asked.get("changes-since")),
        deleted=context.is_admin and _truth(asked.get("deleted", "false")),
        limit=_limit(asked.get("limit")),
        marker=asked.get("marker"),
        sort=_sort(request),
        tags=tuple(tag for tag in asked.get("tags", "").split(",") if tag),
        interfaces=interfaces,
    )


def _states(status: str | None) -> tuple[str, ...]:
    return () if status is None else _VM_STATES.get(status.lower(), ("nothing",))


def _sort(request: Request) -> tuple[tuple[str, bool], ...]:
    keys = [value for name, value in request.query if name == "sort_key"]
    directions = [value for name, value in request.query if name == "sort_dir"]
    if not keys:
        return (("created_at", True), ("id", True))
    padded = directions + ["desc"] * (len(keys) - len(directions))
    return tuple((key, direction == "desc") for key, direction in zip(keys, padded, strict=False))


def _limit(text: str | None) -> int:
    if text is None:
        return PAGE_LIMIT
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Invalid("Invalid input for query parameters limit: it must be a number.")
    return min(int(text) or PAGE_LIMIT, PAGE_LIMIT)


def _moment(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_iso(text)
    except ValueError as error:
        raise Invalid("Invalid input for query parameters changes-since: it is no ISO 8601 time.") from error


def _truth(text: str) -> bool:
    if text.lower() not in ("", "1", "t", "true", "on", "y", "yes", "0", "f", "false", "off", "n", "no"):
        raise Invalid(f"Unrecognized value '{text}' for a truth value.")
    return text.lower() in ("", "1", "t", "true", "on", "y", "yes")


def _next(request: Request, found: list[Server], query: ServerQuery) -> dict[str, object]:
    if len(found) < query.limit:
        return {}
    rest = [(name, value) for name, value in request.query if name != "marker"]
    href = f"{request.base_url}{request.path}?{urlencode([*rest, ('marker', found[-1].id)])}"
    return {"servers_links": [{"rel": "next", "href": href}]}
