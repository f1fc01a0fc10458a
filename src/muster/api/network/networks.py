"""Networks over HTTP."""

from typing import Any

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.network.attributes import COMMON, Attribute, Resource, read_changes, read_new, read_only
from muster.api.network.common import COMMON_FILTERS, COMMON_SORTS, made, standard
from muster.api.network.listing import FLAG, NUMBER, TEXT, Filter, Listing, chosen, list_response, read_query
from muster.api.network.validators import MAX_INT32, boolean, dns_name, integer, list_of, or_empty, or_none, text
from muster.base.ids import new_uuid
from muster.domain.context import Context
from muster.domain.networks import FLAT, MIN_MTU, Network, NetworkChanges, NewNetwork
from muster.services.networks import Networks as Service
from muster.services.security_groups import SecurityGroups


def _mtu(value: Any) -> int:
    number = 0 if value is None else integer(0, MAX_INT32)(value)
    if 0 < number < MIN_MTU:
        raise ValueError(f"'{number}' is too small - must be at least '{MIN_MTU}'")
    return int(number)


NETWORK = Resource(
    name="network",
    collection="networks",
    attributes={
        **COMMON,
        "admin_state_up": Attribute(validate=boolean),
        "shared": Attribute(validate=boolean, admin=True, harmless=False),
        "router:external": Attribute(validate=boolean, field="router_external", admin=True, harmless=False),
        "is_default": Attribute(validate=boolean, admin=True, harmless=False),
        "port_security_enabled": Attribute(validate=boolean),
        "mtu": Attribute(validate=_mtu),
        "dns_domain": Attribute(validate=or_empty(dns_name)),
        "availability_zone_hints": Attribute(validate=list_of(text(), 20), update=False),
        "provider:network_type": Attribute(
            validate=or_none(text()), field="network_type", admin=True, harmless=None, update=False
        ),
        "provider:physical_network": Attribute(
            validate=or_none(text()), field="physical_network", admin=True, harmless=None, update=False
        ),
        "provider:segmentation_id": Attribute(
            validate=or_none(integer(0)), field="segment_id", admin=True, harmless=None, update=False
        ),
        **read_only("status", "subnets", "availability_zones", "tags"),
    },
)

LISTING = Listing(
    collection="networks",
    filters={
        **COMMON_FILTERS,
        "admin_state_up": FLAG,
        "shared": FLAG,
        "router:external": Filter("router_external", boolean),
        "is_default": FLAG,
        "port_security_enabled": FLAG,
        "mtu": NUMBER,
        "dns_domain": TEXT,
        "status": TEXT,
        "provider:network_type": Filter("network_type"),
        "provider:physical_network": Filter("physical_network"),
        "provider:segmentation_id": Filter("segment_id", NUMBER.convert),
    },
    sorts={
        **COMMON_SORTS,
        "admin_state_up": "admin_state_up",
        "mtu": "mtu",
        "shared": "shared",
        "status": "",  # always ACTIVE
    },
)


class Networks:
    """Handlers."""

    def __init__(self, service: Service, groups: SecurityGroups) -> None:
        self._service = service
        self._groups = groups

    async def create(self, request: Request) -> Response:
        items, bulk = await read_new(request, NETWORK)
        networks = await self._service.create(request.context, [NewNetwork(id=new_uuid(), **item) for item in items])
        await self._groups.greet(request.context)
        return made(NETWORK, [view(network, request.context) for network in networks], bulk=bulk)

    async def list(self, request: Request) -> Response:
        query = read_query(request, LISTING)
        networks = await self._service.page(request.context, query)
        return list_response(request, LISTING, query, [view(network, request.context) for network in networks])

    async def show(self, request: Request) -> Response:
        network = await self._service.get(request.context, request.parameters["network_id"])
        return Response({"network": chosen(request, view(network, request.context))})

    async def update(self, request: Request) -> Response:
        changes = NetworkChanges(**await read_changes(request, NETWORK))
        network = await self._service.update(request.context, request.parameters["network_id"], changes)
        return Response({"network": view(network, request.context)})

    async def delete(self, request: Request) -> Response:
        await self._service.delete(request.context, request.parameters["network_id"])
        return Response(status=204)


def view(network: Network, context: Context) -> dict[str, Any]:
    """A network as clients see it; how it is made is for admins."""
    shown = standard(network)
    shown.update(
        {
            "admin_state_up": network.admin_state_up,
            "status": "ACTIVE",
            "subnets": network.subnet_ids,
            "shared": network.shared,
            "router:external": network.router_external,
            "is_default": network.is_default,
            "port_security_enabled": network.port_security_enabled,
            "mtu": network.mtu,
            "dns_domain": network.dns_domain,
            "availability_zone_hints": network.availability_zone_hints,
            "availability_zones": network.availability_zones,
            "tags": network.tags,
        }
    )
    if context.is_admin:
        shown["provider:network_type"] = network.network_type
        shown["provider:physical_network"] = network.physical_network
        shown["provider:segmentation_id"] = None if network.network_type == FLAT else network.segment_id
    return shown
