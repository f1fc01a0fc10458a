"""Which projects may use a flavor that is not public, over HTTP."""

from msgspec import UNSET, Struct, UnsetType

from muster.api.compute.bodies import parse
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.http.routing import Route, Routes
from muster.base.errors import Conflict, Invalid
from muster.domain.policies import Rule
from muster.services.flavors import Flavors


class TenantBody(Struct, forbid_unknown_fields=True):
    """A project."""

    tenant: str


class ActionBody(Struct, forbid_unknown_fields=True, rename={"add": "addTenantAccess", "remove": "removeTenantAccess"}):
    """The body of `POST /flavors/{flavor_id}/action`: one of the two."""

    add: TenantBody | UnsetType = UNSET
    remove: TenantBody | UnsetType = UNSET


class FlavorAccessHandlers:
    """Handlers of `/flavors/{flavor_id}/os-flavor-access` and of a flavor's actions."""

    def __init__(self, flavors: Flavors) -> None:
        self._flavors = flavors

    async def index(self, request: Request) -> Response:
        """The projects that may use a flavor."""
        flavor_id = request.parameters["flavor_id"]
        found = await self._flavors.access(flavor_id)
        return Response({"flavor_access": [{"flavor_id": flavor_id, "tenant_id": one} for one in found]})

    async def act(self, request: Request) -> Response:
        """Give a flavor to a project, or take it away."""
        flavor_id = request.parameters["flavor_id"]
        body = await parse(request, ActionBody)
        flavor = await self._flavors.get(request.context, flavor_id)
        if isinstance(body.add, TenantBody) and body.remove is UNSET:
            if flavor.is_public and request.version >= (2, 7):
                raise Conflict("Can not add access to a public flavor.")
            await self._flavors.add_access(flavor_id, _project(body.add))
        elif isinstance(body.remove, TenantBody) and body.add is UNSET:
            await self._flavors.remove_access(flavor_id, _project(body.remove))
        else:
            raise Invalid("The body must name exactly one action: addTenantAccess or removeTenantAccess.")
        return await self.index(request) if not flavor.is_public else Response({"flavor_access": []})


def flavor_access_routes(flavors: Flavors) -> Routes:
    """Method and path to handler and rule."""
    handlers = FlavorAccessHandlers(flavors)
    return {
        ("GET", "/v2.1/flavors/{flavor_id}/os-flavor-access"): Route(handlers.index, Rule.ADMIN),
        ("POST", "/v2.1/flavors/{flavor_id}/action"): Route(handlers.act, Rule.ADMIN),
    }


def _project(body: TenantBody) -> str:
    if not 1 <= len(body.tenant) <= 255 or "\x00" in body.tenant:
        raise Invalid("Invalid input for field/attribute tenant: it must have 1 to 255 characters.")
    return body.tenant
