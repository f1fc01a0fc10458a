"""A flavor's extra specs over HTTP."""

from msgspec import Struct

from muster.api.compute.bodies import parse
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.http.routing import Route, Routes
from muster.base.errors import Invalid
from muster.domain.extra_specs import check_form, check_known
from muster.domain.policies import Rule
from muster.services.flavors import Flavors, no_extra_spec

_VALIDATED = (2, 86)


class ExtraSpecsBody(Struct, forbid_unknown_fields=True):
    """Extra specs to be added or changed."""

    extra_specs: dict[str, str]


class FlavorExtraSpecHandlers:
    """Handlers of `/flavors/{flavor_id}/os-extra_specs`."""

    def __init__(self, flavors: Flavors) -> None:
        self._flavors = flavors

    async def index(self, request: Request) -> Response:
        """All of a flavor's."""
        return Response({"extra_specs": await self._specs(request)})

    async def show(self, request: Request) -> Response:
        """One of a flavor's."""
        key = request.parameters["key"]
        specs = await self._specs(request)
        if key not in specs:
            raise no_extra_spec(request.parameters["flavor_id"], key)
        return Response({key: specs[key]})

    async def create(self, request: Request) -> Response:
        """Add some, or change them."""
        specs = (await parse(request, ExtraSpecsBody)).extra_specs
        await self._merge(request, specs)
        return Response({"extra_specs": specs})

    async def update(self, request: Request) -> Response:
        """Add one, or change it."""
        specs = await parse(request, dict[str, str])
        if len(specs) != 1:
            raise Invalid("Invalid input for field/attribute extra_specs: exactly one is needed.")
        if request.parameters["key"] not in specs:
            raise Invalid("Request body and URI mismatch")
        await self._merge(request, specs)
        return Response(specs)

    async def delete(self, request: Request) -> Response:
        """Take one away."""
        await self._flavors.delete_extra_spec(request.parameters["flavor_id"], request.parameters["key"])
        return Response(status=200)

    async def _specs(self, request: Request) -> dict[str, str]:
        return (await self._flavors.get(request.context, request.parameters["flavor_id"])).extra_specs

    async def _merge(self, request: Request, specs: dict[str, str]) -> None:
        check_form(specs)
        if request.version >= _VALIDATED:
            check_known(specs)
        await self._flavors.merge_extra_specs(request.parameters["flavor_id"], specs)


def flavor_extra_spec_routes(flavors: Flavors) -> Routes:
    """Method and path to handler and rule."""
    handlers = FlavorExtraSpecHandlers(flavors)
    base = "/v2.1/flavors/{flavor_id}/os-extra_specs"
    return {
        ("GET", base): Route(handlers.index, Rule.PROJECT_READER),
        ("POST", base): Route(handlers.create, Rule.ADMIN),
        ("GET", base + "/{key}"): Route(handlers.show, Rule.PROJECT_READER),
        ("PUT", base + "/{key}"): Route(handlers.update, Rule.ADMIN),
        ("DELETE", base + "/{key}"): Route(handlers.delete, Rule.ADMIN),
    }
