"""Flavors over HTTP: list, show, make, describe, delete."""

import math
import re
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from muster.api.compute.bodies import parse, unexpected
from muster.api.compute.fields import boolean, check_name, check_range, check_text, refused
from muster.api.compute.flavor_views import brief, view
from muster.api.compute.paging import next_link, page_asked
from muster.api.compute.queries import asked
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.http.routing import Route, Routes
from muster.base.errors import Invalid
from muster.base.ids import new_uuid
from muster.domain.flavors import Flavor, FlavorQuery
from muster.domain.policies import Rule
from muster.services.flavors import Flavors

_DESCRIPTIONS = (2, 55)
_DESCRIPTION_LIMIT = 65_535
_ID = re.compile(r"[a-zA-Z0-9._-](?:[a-zA-Z0-9. _-]{0,253}[a-zA-Z0-9._-])?")
_FACTOR_LIMIT = 3.40282e38

_NAMES = {"ephemeral": "OS-FLV-EXT-DATA:ephemeral", "is_public": "os-flavor-access:is_public"}


class FlavorBody(Struct, forbid_unknown_fields=True, rename=_NAMES):
    """A flavor to be made."""

    name: str
    ram: int
    vcpus: int
    disk: int
    id: str | int | None = None
    ephemeral: int = 0
    swap: int = 0
    rxtx_factor: float = 1.0
    is_public: bool | str = True
    description: str | UnsetType | None = UNSET


class CreateBody(Struct, forbid_unknown_fields=True):
    """The body of `POST /flavors`."""

    flavor: FlavorBody


class DescriptionBody(Struct, forbid_unknown_fields=True):
    """What may change of a flavor."""

    description: str | None


class UpdateBody(Struct, forbid_unknown_fields=True):
    """The body of `PUT /flavors/{flavor_id}`."""

    flavor: DescriptionBody


class FlavorHandlers:
    """Handlers of `/flavors`."""

    def __init__(self, flavors: Flavors) -> None:
        self._flavors = flavors

    async def index(self, request: Request) -> Response:
        """The flavors' names."""
        found, links = await self._page(request)
        return Response({"flavors": [brief(request, one) for one in found], **links})

    async def detail(self, request: Request) -> Response:
        """The flavors in full."""
        found, links = await self._page(request)
        return Response({"flavors": [view(request, one) for one in found], **links})

    async def show(self, request: Request) -> Response:
        """One flavor."""
        flavor = await self._flavors.get(request.context, request.parameters["flavor_id"])
        return Response({"flavor": view(request, flavor)})

    async def create(self, request: Request) -> Response:
        """Make a flavor."""
        body = (await parse(request, CreateBody, strict=False)).flavor
        flavor = await self._flavors.create(_parsed(request, body))
        return Response({"flavor": view(request, flavor)})

    async def update(self, request: Request) -> Response:
        """Change a flavor's description."""
        text = (await parse(request, UpdateBody)).flavor.description
        description = check_text(text, "description", limit=_DESCRIPTION_LIMIT)
        flavor = await self._flavors.describe(request.parameters["flavor_id"], description)
        return Response({"flavor": view(request, flavor)})

    async def delete(self, request: Request) -> Response:
        """Delete a flavor; its servers stay as they are."""
        await self._flavors.delete(request.parameters["flavor_id"])
        return Response(status=202)

    async def _page(self, request: Request) -> tuple[list[Flavor], dict[str, Any]]:
        query = asked(request)
        page = page_asked(query)
        found = await self._flavors.page(
            request.context,
            FlavorQuery(
                is_public=_is_public(query) if request.context.is_admin else True,
                min_ram_mib=_least(query, "minRam"),
                min_disk_gib=_least(query, "minDisk"),
                sort_key=query.get("sort_key", "flavorid"),
                descending=_descending(query),
                marker=page.marker,
                limit=page.limit,
            ),
        )
        return found, next_link(request, "flavors", found, page, found[-1].id if found else "")


def flavor_routes(flavors: Flavors) -> Routes:
    """Method and path to handler and rule."""
    handlers = FlavorHandlers(flavors)
    one = "/v2.1/flavors/{flavor_id}"
    return {
        ("GET", "/v2.1/flavors"): Route(handlers.index, Rule.PROJECT_READER),
        ("POST", "/v2.1/flavors"): Route(handlers.create, Rule.ADMIN),
        ("GET", "/v2.1/flavors/detail"): Route(handlers.detail, Rule.PROJECT_READER),
        ("GET", one): Route(handlers.show, Rule.PROJECT_READER),
        ("PUT", one): Route(handlers.update, Rule.ADMIN, since=_DESCRIPTIONS),
        ("DELETE", one): Route(handlers.delete, Rule.ADMIN),
    }


def _parsed(request: Request, body: FlavorBody) -> Flavor:
    if body.description is not UNSET and request.version < _DESCRIPTIONS:
        raise unexpected("description")
    if not (math.isfinite(body.rxtx_factor) and 0 < body.rxtx_factor <= _FACTOR_LIMIT):
        raise refused("rxtx_factor", str(body.rxtx_factor), "it must be greater than 0")
    return Flavor(
        id=_id(body.id),
        name=check_name(body.name),
        ram_mib=check_range(body.ram, "ram", low=1),
        vcpus=check_range(body.vcpus, "vcpus", low=1),
        disk_gib=check_range(body.disk, "disk", low=0),
        ephemeral_gib=check_range(body.ephemeral, "OS-FLV-EXT-DATA:ephemeral", low=0),
        swap_mib=check_range(body.swap, "swap", low=0),
        rxtx_factor=body.rxtx_factor,
        is_public=boolean(body.is_public, "os-flavor-access:is_public"),
        description=check_text(body.description or None, "description", limit=_DESCRIPTION_LIMIT),
    )


def _id(wanted: str | int | None) -> str:
    text = "" if wanted is None else str(wanted)
    if not text:
        return new_uuid()
    if _ID.fullmatch(text) is None:
        raise refused("id", text, "letters, digits, '.', '_', '-' and inner spaces, 255 at most")
    return text


def _is_public(query: dict[str, str]) -> bool | None:
    text = query.get("is_public", "true").lower()
    if text == "none":
        return None
    try:
        return boolean(text, "is_public")
    except Invalid as error:
        raise Invalid(f"Invalid is_public filter [{text[:80]}]") from error


def _least(query: dict[str, str], name: str) -> int:
    text = query.get(name, "0")
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise Invalid(f"Invalid {name} filter [{text[:80]}]")
    return int(text)


def _descending(query: dict[str, str]) -> bool:
    direction = query.get("sort_dir", "asc")
    if direction not in ("asc", "desc"):
        raise Invalid("Unknown sort direction, must be 'desc' or 'asc'.")
    return direction == "desc"
