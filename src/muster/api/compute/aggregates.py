"""Host aggregates over HTTP."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType

from muster.api.compute.bodies import parse
from muster.api.compute.fields import check_name, check_text, refused
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.http.routing import Route, Routes
from muster.base.errors import Invalid, NotFound
from muster.base.ids import new_uuid
from muster.base.units import iso_plain
from muster.domain.aggregates import ZONE_KEY, Aggregate, NewAggregate
from muster.domain.policies import Rule
from muster.services.aggregates import Aggregates

_UUIDS = (2, 41)


class NewBody(Struct, forbid_unknown_fields=True):
    """An aggregate to be made."""

    name: str
    availability_zone: str | None = None


class CreateBody(Struct, forbid_unknown_fields=True):
    """The body of `POST /os-aggregates`."""

    aggregate: NewBody


class ChangesBody(Struct, forbid_unknown_fields=True):
    """What shall change of an aggregate."""

    name: str | UnsetType = UNSET
    availability_zone: str | UnsetType | None = UNSET


class UpdateBody(Struct, forbid_unknown_fields=True):
    """The body of `PUT /os-aggregates/{aggregate_id}`."""

    aggregate: ChangesBody


class HostBody(Struct, forbid_unknown_fields=True):
    """A host."""

    host: str


class MetadataBody(Struct, forbid_unknown_fields=True):
    """Metadata to be added, changed, or with null taken away."""

    metadata: dict[str, str | None]


class ActionBody(Struct, forbid_unknown_fields=True):
    """The body of `POST /os-aggregates/{aggregate_id}/action`: one of these."""

    add_host: HostBody | UnsetType = UNSET
    remove_host: HostBody | UnsetType = UNSET
    set_metadata: MetadataBody | UnsetType = UNSET


class AggregateHandlers:
    """Handlers of `/os-aggregates`."""

    def __init__(self, aggregates: Aggregates) -> None:
        self._aggregates = aggregates

    async def index(self, request: Request) -> Response:
        """All aggregates."""
        return Response({"aggregates": [_view(request, one) for one in await self._aggregates.all()]})

    async def show(self, request: Request) -> Response:
        """One aggregate."""
        return _answer(request, await self._aggregates.get(_number(request)))

    async def create(self, request: Request) -> Response:
        """Make an aggregate. The answer has neither hosts nor metadata, as Nova's."""
        body = (await parse(request, CreateBody)).aggregate
        new = NewAggregate(uuid=new_uuid(), name=check_name(body.name), availability_zone=_zone(body.availability_zone))
        shown = _view(request, await self._aggregates.create(new))
        return Response({"aggregate": {name: shown[name] for name in shown if name not in ("hosts", "metadata")}})

    async def update(self, request: Request) -> Response:
        """Change an aggregate's name or zone."""
        body = (await parse(request, UpdateBody)).aggregate
        if body.name is UNSET and body.availability_zone is UNSET:
            raise Invalid("Invalid input for field/attribute aggregate. It must have a name or an availability_zone.")
        name = check_name(body.name) if isinstance(body.name, str) else None
        zone = None if body.availability_zone is UNSET else _zone(body.availability_zone)
        rezone = body.availability_zone is not UNSET
        return _answer(request, await self._aggregates.update(_number(request), name, zone, rezone=rezone))

    async def delete(self, request: Request) -> Response:
        """Delete an aggregate that has no hosts."""
        await self._aggregates.delete(_number(request))
        return Response(status=200)

    async def act(self, request: Request) -> Response:
        """Put a host in, take one out, or change metadata."""
        body = await parse(request, ActionBody)
        number = _number(request)
        match (body.add_host, body.remove_host, body.set_metadata):
            case (HostBody(host=host), UnsetType(), UnsetType()):
                changed = await self._aggregates.add_host(number, check_name(host, "host"))
            case (UnsetType(), HostBody(host=host), UnsetType()):
                changed = await self._aggregates.remove_host(number, check_name(host, "host"))
            case (UnsetType(), UnsetType(), MetadataBody(metadata=metadata)):
                changed = await self._aggregates.set_metadata(number, _checked(metadata))
            case _:
                raise Invalid("The body must name exactly one action: add_host, remove_host or set_metadata.")
        return _answer(request, changed)


def aggregate_routes(aggregates: Aggregates) -> Routes:
    """Method and path to handler and rule."""
    handlers = AggregateHandlers(aggregates)
    one = "/v2.1/os-aggregates/{aggregate_id}"
    return {
        ("GET", "/v2.1/os-aggregates"): Route(handlers.index, Rule.ADMIN),
        ("POST", "/v2.1/os-aggregates"): Route(handlers.create, Rule.ADMIN),
        ("GET", one): Route(handlers.show, Rule.ADMIN),
        ("PUT", one): Route(handlers.update, Rule.ADMIN),
        ("DELETE", one): Route(handlers.delete, Rule.ADMIN),
        ("POST", one + "/action"): Route(handlers.act, Rule.ADMIN),
    }


def _view(request: Request, aggregate: Aggregate) -> dict[str, Any]:
    zone = aggregate.availability_zone
    shown: dict[str, Any] = {
        "id": aggregate.id,
        "name": aggregate.name,
        "availability_zone": zone,
        "hosts": list(aggregate.hostnames),
        "metadata": {**aggregate.metadata, **({} if zone is None else {ZONE_KEY: zone})},
        "created_at": iso_plain(aggregate.created_at),
        "updated_at": None if aggregate.updated_at is None else iso_plain(aggregate.updated_at),
        "deleted": False,
        "deleted_at": None,
    }
    return shown | ({"uuid": aggregate.uuid} if request.version >= _UUIDS else {})


def _answer(request: Request, aggregate: Aggregate) -> Response:
    return Response({"aggregate": _view(request, aggregate)})


def _number(request: Request) -> int:
    text = request.parameters["aggregate_id"]
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise NotFound(f"Aggregate {text} could not be found.", code="compute.aggregate")
    return int(text)


def _zone(zone: str | None) -> str | None:
    if zone is not None and ":" in check_name(zone, ZONE_KEY):
        raise refused(ZONE_KEY, zone, "it must not contain ':'")
    return zone


def _checked(metadata: dict[str, str | None]) -> dict[str, str | None]:
    for key, value in metadata.items():
        if not 1 <= len(key) <= 255:
            raise refused("metadata", key, "keys have 1 to 255 characters")
        check_text(key, "metadata", limit=255)
        check_text(value, key, limit=255)
    if metadata.get(ZONE_KEY) is not None:
        _zone(metadata[ZONE_KEY])
    return metadata
