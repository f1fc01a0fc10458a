"""Ports over HTTP."""

from typing import Any

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.network.attributes import COMMON, Attribute, Resource, read_changes, read_new, read_only
from muster.api.network.common import COMMON_FILTERS, COMMON_SORTS, made, standard
from muster.api.network.listing import FLAG, TEXT, Filter, Listing, chosen, list_response, read_query
from muster.api.network.validators import (
    MAX_ADDRESS_PAIRS,
    MAX_FIXED_IPS,
    MAX_TAGS,
    address_pair,
    boolean,
    dhcp_option,
    dns_name,
    document,
    fixed_ip,
    list_of,
    mac,
    one_of,
    or_empty,
    or_none,
    tag,
    text,
    uuid,
)
from muster.base.ids import new_uuid
from muster.domain.context import Context
from muster.domain.network_errors import network_error
from muster.domain.port_changes import PortChanges
from muster.domain.ports import NewPort, Port
from muster.domain.specs import FixedIp
from muster.services.ports import Ports as Service

_LIST_LIMIT = 1_000


def _pairs(value: Any) -> Any:
    pairs = list_of(address_pair, _LIST_LIMIT)(value)
    if len(pairs) > MAX_ADDRESS_PAIRS:
        raise network_error("AddressPairsExhausted", quota=MAX_ADDRESS_PAIRS)
    return pairs


PORT = Resource(
    name="port",
    collection="ports",
    attributes={
        **COMMON,
        "network_id": Attribute(validate=uuid, required=True, update=False),
        "admin_state_up": Attribute(validate=boolean),
        "mac_address": Attribute(validate=mac),
        "fixed_ips": Attribute(validate=list_of(fixed_ip, MAX_FIXED_IPS, unique=False)),
        "security_groups": Attribute(validate=list_of(uuid, _LIST_LIMIT), field="security_group_ids"),
        "port_security_enabled": Attribute(validate=boolean),
        "allowed_address_pairs": Attribute(validate=_pairs),
        "extra_dhcp_opts": Attribute(validate=list_of(dhcp_option, 100)),
        "device_id": Attribute(validate=text()),
        "device_owner": Attribute(validate=text()),
        "dns_name": Attribute(validate=or_empty(dns_name)),
        "binding:host_id": Attribute(validate=or_empty(text()), field="binding_host_id", admin=True, harmless=""),
        "binding:profile": Attribute(validate=document(), field="binding_profile", admin=True, harmless={}),
        "binding:vnic_type": Attribute(validate=one_of("normal"), field="binding_vnic_type"),
        "tags": Attribute(validate=list_of(tag, MAX_TAGS), update=False),
        **read_only("status", "binding:vif_type", "binding:vif_details", "dns_assignment"),
    },
)
# Neutron takes null for a MAC address on creation only.
PORT_CREATE = Resource(
    name="port",
    collection="ports",
    attributes={**PORT.attributes, "mac_address": Attribute(validate=or_none(mac))},
)

LISTING = Listing(
    collection="ports",
    filters={
        **COMMON_FILTERS,
        "network_id": TEXT,
        "admin_state_up": FLAG,
        "mac_address": Filter(convert=str.lower),
        "status": TEXT,
        "device_id": TEXT,
        "device_owner": TEXT,
        "port_security_enabled": FLAG,
        "dns_name": TEXT,
        "binding:host_id": Filter("binding_host_id"),
        "binding:vnic_type": Filter("binding_vnic_type"),
        "security_groups": Filter("security_group_id"),
    },
    pairs={
        "fixed_ips": {
            "ip_address": "fixed_ip_address",
            "subnet_id": "fixed_ip_subnet_id",
            "ip_address_substr": "fixed_ip_address_part",
        }
    },
    sorts={
        **COMMON_SORTS,
        "network_id": "network_id",
        "admin_state_up": "admin_state_up",
        "mac_address": "mac_address",
        "status": "status",
        "device_id": "device_id",
        "device_owner": "device_owner",
    },
)


class Ports:
    """Handlers. `dns_domain` completes the names of ports."""

    def __init__(self, service: Service, dns_domain: str) -> None:
        self._service = service
        self._dns_domain = dns_domain

    async def create(self, request: Request) -> Response:
        items, bulk = await read_new(request, PORT_CREATE)
        drafts = [_draft(item) for item in items]
        if bulk:
            ports = await self._service.create_many(request.context, drafts)
        else:
            ports = [await self._service.create(request.context, drafts[0])]
        return made(PORT, [self._view(port, request.context) for port in ports], bulk=bulk)

    async def list(self, request: Request) -> Response:
        query = read_query(request, LISTING)
        ports = await self._service.page(request.context, query)
        return list_response(request, LISTING, query, [self._view(port, request.context) for port in ports])

    async def show(self, request: Request) -> Response:
        port = await self._service.get(request.context, request.parameters["port_id"])
        return Response({"port": chosen(request, self._view(port, request.context))})

    async def update(self, request: Request) -> Response:
        changes = PortChanges(**await read_changes(request, PORT))
        port = await self._service.update(request.context, request.parameters["port_id"], changes)
        return Response({"port": self._view(port, request.context)})

    async def delete(self, request: Request) -> Response:
        await self._service.delete(request.context, request.parameters["port_id"])
        return Response(status=204)

    def _view(self, port: Port, context: Context) -> dict[str, Any]:
        return view(port, context, self._dns_domain)


def _draft(item: dict[str, Any]) -> NewPort:
    if "extra_dhcp_opts" in item:
        item["extra_dhcp_opts"] = tuple(option for option in item["extra_dhcp_opts"] if "opt_value" in option)
    return NewPort(id=new_uuid(), **item)


def view(port: Port, context: Context, dns_domain: str) -> dict[str, Any]:
    """A port as clients see it; where it is bound is for admins."""
    shown = standard(port)
    shown.update(
        {
            "network_id": port.network_id,
            "mac_address": port.mac_address,
            "admin_state_up": port.admin_state_up,
            "status": port.status,
            "device_id": port.device_id,
            "device_owner": port.device_owner,
            "fixed_ips": port.fixed_ips,
            "security_groups": port.security_group_ids,
            "port_security_enabled": port.port_security_enabled,
            "allowed_address_pairs": port.allowed_address_pairs,
            "extra_dhcp_opts": [{**one, "ip_version": int(one["ip_version"])} for one in port.extra_dhcp_opts],
            "dns_name": port.dns_name,
            "dns_assignment": [_assignment(one, port.dns_name, dns_domain) for one in port.fixed_ips],
            "binding:vnic_type": port.binding_vnic_type,
            "tags": port.tags,
        }
    )
    if context.is_admin:
        bound = bool(port.binding_host_id)
        shown["binding:host_id"] = port.binding_host_id
        shown["binding:profile"] = port.binding_profile
        shown["binding:vif_type"] = "bridge" if bound else "unbound"
        shown["binding:vif_details"] = {"port_filter": True, "connectivity": "l2"} if bound else {}
    return shown


def _assignment(fixed_ip: FixedIp, dns_name: str, dns_domain: str) -> dict[str, str]:
    """The names under which the network's DNS knows an address."""
    if dns_name.endswith("."):
        return {"ip_address": fixed_ip.ip_address, "hostname": dns_name.partition(".")[0], "fqdn": dns_name}
    hostname = dns_name or "host-" + fixed_ip.ip_address.replace(".", "-").replace(":", "-")
    return {"ip_address": fixed_ip.ip_address, "hostname": hostname, "fqdn": f"{hostname}.{dns_domain}"}
