"""Subnets over HTTP."""

from typing import Any

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.network.attributes import COMMON, Attribute, Resource, read_changes, read_new, read_only
from muster.api.network.common import COMMON_FILTERS, COMMON_SORTS, made, standard
from muster.api.network.listing import FLAG, NULLABLE, NUMBER, TEXT, Listing, chosen, list_response, read_query
from muster.api.network.validators import (
    address,
    boolean,
    cidr,
    host_route,
    integer,
    list_of,
    one_of,
    or_none,
    pool,
    text,
    uuid,
)
from muster.base.ids import new_uuid
from muster.domain.network_errors import bad_request
from muster.domain.subnets import IPV6_MODES, NewSubnet, Subnet, SubnetChanges
from muster.services.subnets import Subnets as Service

_LIST_LIMIT = 1_000


def _ip_version(value: Any) -> int:
    return int(one_of(4, 6)(integer(0)(value)))


def _no_pool(value: Any) -> None:
    if value is not None:
        raise ValueError("subnet pools are not offered")


SUBNET = Resource(
    name="subnet",
    collection="subnets",
    attributes={
        **COMMON,
        "network_id": Attribute(validate=uuid, required=True, update=False),
        "ip_version": Attribute(validate=_ip_version, required=True, update=False),
        "cidr": Attribute(validate=or_none(cidr), update=False),
        "gateway_ip": Attribute(validate=or_none(address)),
        "allocation_pools": Attribute(validate=list_of(pool, _LIST_LIMIT, unique=False)),
        "enable_dhcp": Attribute(validate=boolean),
        "dns_nameservers": Attribute(validate=list_of(address, _LIST_LIMIT)),
        "host_routes": Attribute(validate=list_of(host_route, _LIST_LIMIT)),
        "service_types": Attribute(validate=list_of(text(), 100)),
        "ipv6_address_mode": Attribute(validate=or_none(one_of(*IPV6_MODES)), update=False),
        "ipv6_ra_mode": Attribute(validate=or_none(one_of(*IPV6_MODES)), update=False),
        "dns_publish_fixed_ip": Attribute(validate=boolean),
        "subnetpool_id": Attribute(validate=_no_pool, update=False),
        **read_only("shared", "tags"),
    },
)

LISTING = Listing(
    collection="subnets",
    filters={
        **COMMON_FILTERS,
        "network_id": TEXT,
        "ip_version": NUMBER,
        "cidr": TEXT,
        "gateway_ip": NULLABLE,
        "enable_dhcp": FLAG,
        "ipv6_address_mode": NULLABLE,
        "ipv6_ra_mode": NULLABLE,
        "dns_publish_fixed_ip": FLAG,
        "shared": FLAG,
        "service_types": TEXT,
    },
    sorts={
        **COMMON_SORTS,
        "network_id": "network_id",
        "ip_version": "ip_version",
        "cidr": "cidr",
        "gateway_ip": "gateway_ip",
        "enable_dhcp": "enable_dhcp",
        "ipv6_address_mode": "ipv6_address_mode",
        "ipv6_ra_mode": "ipv6_ra_mode",
    },
)


class Subnets:
    """Handlers."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def create(self, request: Request) -> Response:
        items, bulk = await read_new(request, SUBNET)
        subnets = await self._service.create(request.context, [_draft(item) for item in items])
        return made(SUBNET, [view(subnet) for subnet in subnets], bulk=bulk)

    async def list(self, request: Request) -> Response:
        query = read_query(request, LISTING)
        subnets = await self._service.page(request.context, query)
        return list_response(request, LISTING, query, [view(subnet) for subnet in subnets])

    async def show(self, request: Request) -> Response:
        subnet = await self._service.get(request.context, request.parameters["subnet_id"])
        return Response({"subnet": chosen(request, view(subnet))})

    async def update(self, request: Request) -> Response:
        changes = SubnetChanges(**await read_changes(request, SUBNET))
        subnet = await self._service.update(request.context, request.parameters["subnet_id"], changes)
        return Response({"subnet": view(subnet)})

    async def delete(self, request: Request) -> Response:
        await self._service.delete(request.context, request.parameters["subnet_id"])
        return Response(status=204)


def _draft(item: dict[str, Any]) -> NewSubnet:
    if item.get("cidr") is None:
        raise bad_request("Bad subnets request: a subnetpool must be specified in the absence of a cidr.")
    item.pop("subnetpool_id", None)
    return NewSubnet(id=new_uuid(), **item)


def view(subnet: Subnet) -> dict[str, Any]:
    """A subnet as clients see it."""
    shown = standard(subnet)
    shown.update(
        {
            "network_id": subnet.network_id,
            "ip_version": subnet.ip_version,
            "cidr": subnet.cidr,
            "subnetpool_id": None,
            "gateway_ip": subnet.gateway_ip,
            "enable_dhcp": subnet.enable_dhcp,
            "dns_nameservers": subnet.dns_nameservers,
            "host_routes": subnet.host_routes,
            "allocation_pools": subnet.allocation_pools,
            "service_types": subnet.service_types,
            "ipv6_address_mode": subnet.ipv6_address_mode,
            "ipv6_ra_mode": subnet.ipv6_ra_mode,
            "dns_publish_fixed_ip": subnet.dns_publish_fixed_ip,
            "tags": subnet.tags,
        }
    )
    return shown
