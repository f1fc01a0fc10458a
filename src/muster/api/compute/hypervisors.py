"""Hypervisors over HTTP. Each page costs one query, another with the servers on them."""

from muster.api.compute.hosts import UUIDS, named_host
from muster.api.compute.hypervisor_views import Views
from muster.api.compute.paging import PageAsked, next_link, page_asked
from muster.api.compute.queries import asked, truth
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.http.routing import Route, Routes
from muster.base.errors import Invalid, NotFound
from muster.domain.hypervisors import Hypervisor, HypervisorQuery
from muster.domain.policies import Rule
from muster.services.hypervisors import Hypervisors

_PAGES = (2, 33)


class HypervisorHandlers:
    """Handlers of `/os-hypervisors`."""

    def __init__(self, hypervisors: Hypervisors) -> None:
        self._hypervisors = hypervisors
        self._views = Views(hypervisors)

    async def index(self, request: Request) -> Response:
        """The hypervisors' names and states."""
        return await self._list(request, detailed=False)

    async def detail(self, request: Request) -> Response:
        """The hypervisors in full."""
        return await self._list(request, detailed=True)

    async def show(self, request: Request) -> Response:
        """One hypervisor."""
        query = asked(request, "with_servers")
        host = await self._named(request)
        with_servers = request.version >= UUIDS and truth(query, "with_servers")
        guests = await self._hypervisors.guests([host]) if with_servers else None
        return Response({"hypervisor": self._views.full(request, host, guests)})

    async def statistics(self, request: Request) -> Response:
        """All enabled hypervisors together."""
        return Response({"hypervisor_statistics": self._views.together(await self._hypervisors.statistics())})

    async def uptime(self, request: Request) -> Response:
        """For how long a hypervisor's agent has been there."""
        host = await self._named(request)
        if not self._hypervisors.is_up(host):
            raise Invalid(f"Compute service of {host.hostname} is unavailable at this time.")
        return Response({"hypervisor": {**self._views.brief(request, host), "uptime": self._views.uptime(host)}})

    async def search(self, request: Request) -> Response:
        """Those whose name has a part."""
        found = await self._matching(request.parameters["hypervisor_id"])
        return Response({"hypervisors": [self._views.brief(request, host) for host in found]})

    async def servers(self, request: Request) -> Response:
        """Those whose name has a part, with their servers."""
        found = await self._matching(request.parameters["hypervisor_id"])
        guests = await self._hypervisors.guests(found)
        return Response({"hypervisors": [self._views.brief(request, host, guests) for host in found]})

    async def _list(self, request: Request, *, detailed: bool) -> Response:
        query = asked(request, "limit", "marker", "hypervisor_hostname_pattern", "with_servers")
        pattern = query.get("hypervisor_hostname_pattern") if request.version >= UUIDS else None
        page = page_asked(query) if request.version >= _PAGES else None
        if pattern is not None:
            if "limit" in query or "marker" in query:
                raise Invalid(
                    "Paging over hypervisors with the hypervisor_hostname_pattern query parameter is not supported."
                )
            found, page = await self._matching(pattern), None
        else:
            found = await self._page(page)
        with_servers = request.version >= UUIDS and truth(query, "with_servers")
        guests = await self._hypervisors.guests(found) if with_servers else None
        view = self._views.full if detailed else self._views.brief
        links = next_link(request, "hypervisors", found, page, found[-1].id if found else "") if page else {}
        return Response({"hypervisors": [view(request, host, guests) for host in found], **links})

    async def _page(self, page: PageAsked | None) -> list[Hypervisor]:
        if page is None:
            return await self._hypervisors.page(HypervisorQuery())
        return await self._hypervisors.page(HypervisorQuery(limit=page.limit, marker=page.marker))

    async def _matching(self, part: str) -> list[Hypervisor]:
        found = await self._hypervisors.page(HypervisorQuery(hostname_part=part))
        if not found:
            raise NotFound(f"No hypervisor matching '{part}' could be found.", code="compute.host")
        return found

    async def _named(self, request: Request) -> Hypervisor:
        host_id = request.parameters["hypervisor_id"]
        missing = f"Hypervisor with ID '{host_id}' could not be found."
        return await named_host(request, self._hypervisors, host_id, missing)


def hypervisor_routes(hypervisors: Hypervisors) -> Routes:
    """Method and path to handler and rule."""
    handlers = HypervisorHandlers(hypervisors)
    base, admin = "/v2.1/os-hypervisors", Rule.ADMIN
    one = base + "/{hypervisor_id}"  # below 2.53, search and servers have a part of a name in this place
    return {
        ("GET", base): Route(handlers.index, admin),
        ("GET", base + "/detail"): Route(handlers.detail, admin),
        ("GET", base + "/statistics"): Route(handlers.statistics, admin, until=(2, 87)),
        ("GET", one): Route(handlers.show, admin),
        ("GET", one + "/uptime"): Route(handlers.uptime, admin, until=(2, 87)),
        ("GET", one + "/search"): Route(handlers.search, admin, until=(2, 52)),
        ("GET", one + "/servers"): Route(handlers.servers, admin, until=(2, 52)),
    }
