"""A server's interfaces, addresses and security groups over HTTP."""

from ipaddress import ip_address
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from muster.api.compute.bodies import Tag, Uuid, check_any_address, parse, unexpected
from muster.api.compute.server_views import addresses, attachment
from muster.api.compute.services import Services
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.base.errors import Invalid, NotFound
from muster.domain.security_groups import SecurityGroup, SecurityGroupRule
from muster.domain.server_interfaces import Attach, Detach
from muster.domain.server_lookups import NicAsked


class AddressBody(Struct, forbid_unknown_fields=True):
    """A wanted address."""

    ip_address: str

    def __post_init__(self) -> None:
        check_any_address(self.ip_address, "ip_address")


class AttachmentBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A wanted interface: on a network, or an existing port."""

    net_id: Uuid | UnsetType = UNSET
    port_id: Uuid | UnsetType = UNSET
    fixed_ips: Annotated[list[AddressBody], Meta(min_length=1, max_length=1)] | UnsetType = UNSET
    tag: Tag | UnsetType = UNSET


class AttachBody(Struct, forbid_unknown_fields=True):
    """The body of `POST /servers/{server_id}/os-interface`; without one, the only network is taken."""

    interfaceAttachment: AttachmentBody = AttachmentBody()  # noqa: N815 - Nova's name


class ServerInterfaceHandlers:
    """Handlers of `/servers/{server_id}/os-interface`, `/ips` and `/os-security-groups`."""

    def __init__(self, services: Services) -> None:
        self._servers = services.servers
        self._interfaces = services.server_interfaces
        self._groups = services.server_security_groups

    async def index(self, request: Request) -> Response:
        """The interfaces."""
        server = await self._servers.get(request.context, request.parameters["server_id"])
        shown = [attachment(request, server, interface) for interface in server.interfaces]
        return Response({"interfaceAttachments": shown})

    async def show(self, request: Request) -> Response:
        """One interface."""
        parameters = request.parameters
        found = await self._interfaces.get(request.context, parameters["server_id"], parameters["port_id"])
        return Response({"interfaceAttachment": attachment(request, *found)})

    async def create(self, request: Request) -> Response:
        """Attach an interface."""
        body = (await parse(request, AttachBody)).interfaceAttachment
        if body.tag is not UNSET and request.version < (2, 49):
            raise unexpected("tag")
        if body.net_id and body.port_id:
            raise Invalid("Must not input both network_id and port_id")
        if body.fixed_ips and not body.net_id:
            raise Invalid("Must input network_id when request IP address")
        fixed_ip = str(ip_address(body.fixed_ips[0].ip_address)) if body.fixed_ips else None
        nic = NicAsked(network_id=body.net_id or None, port_id=body.port_id or None, fixed_ip=fixed_ip)
        asked = Attach(
            context=request.context,
            server_id=request.parameters["server_id"],
            nic=nic if body.net_id or body.port_id else None,
            tag=body.tag or None,
            request_id=request.request_id,
        )
        return Response({"interfaceAttachment": attachment(request, *await self._interfaces.attach(asked))})

    async def delete(self, request: Request) -> Response:
        """Detach an interface."""
        asked = Detach(
            context=request.context,
            server_id=request.parameters["server_id"],
            port_id=request.parameters["port_id"],
            request_id=request.request_id,
        )
        await self._interfaces.detach(asked)
        return Response(status=202)

    async def addresses(self, request: Request) -> Response:
        """The addresses, by network."""
        server = await self._servers.get(request.context, request.parameters["server_id"])
        return Response({"addresses": addresses(server, extended=False)})

    async def addresses_on(self, request: Request) -> Response:
        """The addresses on one network."""
        server = await self._servers.get(request.context, request.parameters["server_id"])
        label = request.parameters["network_label"]
        found = addresses(server, extended=False)
        if label not in found:
            raise NotFound("Instance is not a member of specified network")
        return Response({label: found[label]})

    async def groups(self, request: Request) -> Response:
        """The security groups of the interfaces, with their rules."""
        found = await self._groups.page(request.context, request.parameters["server_id"])
        names = {group.id: group for group in found}
        return Response({"security_groups": [_group(group, names) for group in found]})


def _group(group: SecurityGroup, known: dict[str, SecurityGroup]) -> dict[str, Any]:
    """A group as Nova shows it: with its rules for what comes in alone."""
    return {
        "id": group.id,
        "name": group.name,
        "description": group.description,
        "tenant_id": group.project_id,
        "rules": [_rule(rule, known) for rule in group.rules if rule.direction == "ingress"],
    }


def _rule(rule: SecurityGroupRule, known: dict[str, SecurityGroup]) -> dict[str, Any]:
    low, high = rule.port_range_min, rule.port_range_max
    if rule.protocol and low is None and high is None:
        low, high = (1, 65_535) if rule.protocol.upper() in ("TCP", "UDP") else (-1, -1)
    remote = known.get(rule.remote_group_id or "")
    return {
        "id": rule.id,
        "parent_group_id": rule.security_group_id,
        "ip_protocol": rule.protocol,
        "from_port": low,
        "to_port": high,
        "group": {"name": remote.name, "tenant_id": remote.project_id} if remote else {},
        "ip_range": {} if rule.remote_group_id else {"cidr": rule.remote_ip_prefix or "0.0.0.0/0"},
    }
