"""What projects used in a period, over HTTP (`os-simple-tenant-usage`)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from muster.api.compute.paging import PageAsked, next_link, page_asked
from muster.api.compute.queries import asked, moment
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.http.routing import Route, Routes
from muster.base.errors import Invalid
from muster.domain.policies import Rule
from muster.domain.tenant_usages import Period, Usage, UsedServer, no_usage, usages_of
from muster.services.tenant_usages import TenantUsages

_PAGES = (2, 40)
# Nova takes "1" alone; openstacksdk says "True".
_DETAILED = ("1", "true")
_NAMES = ("start", "end", "detailed", "limit", "marker")


class TenantUsageHandlers:
    """Handlers of `/os-simple-tenant-usage`."""

    def __init__(self, usages: TenantUsages) -> None:
        self._usages = usages

    async def index(self, request: Request) -> Response:
        """All projects'."""
        period, found, links = await self._read(request, None)
        detailed = dict(request.query).get("detailed", "").lower() in _DETAILED
        shown = [self._view(one, period, detailed=detailed) for one in usages_of(found, period)]
        return Response({"tenant_usages": shown, **_named("tenant_usages_links", links)})

    async def show(self, request: Request) -> Response:
        """One project's, with its servers.

        Of a project that had none it is zeros, where Nova leaves them out: `openstack usage show` fails at that.
        """
        project_id = request.parameters["project_id"]
        period, found, links = await self._read(request, project_id)
        [usage] = usages_of(found, period) or [no_usage(project_id)]
        shown = self._view(usage, period, detailed=True)
        return Response({"tenant_usage": shown, **_named("tenant_usage_links", links)})

    async def _read(self, request: Request, project_id: str | None) -> tuple[Period, list[UsedServer], list[Any]]:
        query = asked(request, *_NAMES)
        period = self._period(query)
        page = page_asked(query) if request.version >= _PAGES else None
        limit, marker = (page.limit, page.marker) if page else (None, None)
        found = list(
            await self._usages.read(request.context, period, project_id=project_id, limit=limit, marker=marker)
        )
        return period, found, _links(request, found, page)

    def _period(self, query: Mapping[str, str]) -> Period:
        now = self._usages.now()
        start, stop = moment(query, "start"), moment(query, "end")
        period = Period(now if start is None else start, now if stop is None else stop)
        if period.start > period.stop or (period.start == period.stop and start is not None):
            raise Invalid("Invalid start time. The start time cannot occur after the end time.")
        return period

    def _view(self, usage: Usage, period: Period, *, detailed: bool) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "tenant_id": usage.project_id,
            "start": _time(period.start),
            "stop": _time(period.stop),
            "total_hours": usage.hours,
            "total_vcpus_usage": usage.vcpu_hours,
            "total_memory_mb_usage": usage.ram_mib_hours,
            "total_local_gb_usage": usage.disk_gib_hours,
        }
        if detailed:
            shown["server_usages"] = [self._server(server, period) for server in usage.servers]
        return shown

    def _server(self, server: UsedServer, period: Period) -> dict[str, Any]:
        ended = server.terminated_at
        return {
            "instance_id": server.id,
            "name": server.name,
            "tenant_id": server.project_id,
            "flavor": server.flavor_name,
            "vcpus": server.vcpus,
            "memory_mb": server.ram_mib,
            "local_gb": server.disk_gib,
            "hours": period.hours_of(server),
            "started_at": _time(server.launched_at),
            "ended_at": None if ended is None else _time(ended),
            "state": server.vm_state if ended is None else "terminated",
            "uptime": int((self._usages.now() if ended is None else ended) - server.launched_at),
        }


def tenant_usage_routes(usages: TenantUsages) -> Routes:
    """Method and path to handler and rule."""
    handlers = TenantUsageHandlers(usages)
    base = "/v2.1/os-simple-tenant-usage"
    return {
        ("GET", base): Route(handlers.index, Rule.ADMIN),
        ("GET", base + "/{project_id}"): Route(handlers.show, Rule.PROJECT_READER),
    }


def _links(request: Request, found: list[UsedServer], page: PageAsked | None) -> list[Any]:
    if page is None or not found:
        return []
    return list(next_link(request, "usages", found, page, found[-1].id).get("usages_links", []))


def _named(name: str, links: list[Any]) -> dict[str, Any]:
    return {name: links} if links else {}


def _time(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
