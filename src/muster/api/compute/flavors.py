"""Flavors over HTTP."""

from typing import Any

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.domain.flavors import Flavor
from muster.services.flavors import Flavors


class FlavorHandlers:
    """Handlers of `/flavors`."""

    def __init__(self, flavors: Flavors) -> None:
        self._flavors = flavors

    async def index(self, request: Request) -> Response:
        """The flavors' names."""
        found = await self._flavors.page(request.context)
        brief = [{name: view(request, flavor)[name] for name in ("id", "name", "links")} for flavor in found]
        return Response({"flavors": brief})

    async def detail(self, request: Request) -> Response:
        """The flavors in full."""
        return Response({"flavors": [view(request, one) for one in await self._flavors.page(request.context)]})

    async def show(self, request: Request) -> Response:
        """One flavor."""
        return Response({"flavor": view(request, await self._one(request))})

    async def extra_specs(self, request: Request) -> Response:
        """One flavor's extra specs."""
        return Response({"extra_specs": (await self._one(request)).extra_specs})

    async def _one(self, request: Request) -> Flavor:
        return await self._flavors.get(request.context, request.parameters["flavor_id"])


def view(request: Request, flavor: Flavor) -> dict[str, Any]:
    """A flavor as Nova shows it."""
    shown: dict[str, Any] = {
        "id": flavor.id,
        "name": flavor.name,
        "vcpus": flavor.vcpus,
        "ram": flavor.ram_mib,
        "disk": flavor.disk_gib,
        "OS-FLV-EXT-DATA:ephemeral": flavor.ephemeral_gib,
        "OS-FLV-DISABLED:disabled": flavor.disabled,
        "os-flavor-access:is_public": flavor.is_public,
        "rxtx_factor": flavor.rxtx_factor,
        "swap": flavor.swap_mib if request.version >= (2, 75) else flavor.swap_mib or "",
        "links": [{"rel": "self", "href": f"{request.base_url}/v2.1/flavors/{flavor.id}"}],
    }
    if request.version >= (2, 55):
        shown["description"] = flavor.description
    if request.version >= (2, 61):
        shown["extra_specs"] = flavor.extra_specs
    return shown
