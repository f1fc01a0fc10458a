"""Rules of security groups over HTTP."""

from typing import Any

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.network.attributes import COMMON, Attribute, Resource, read_new, read_only
from muster.api.network.common import COMMON_FILTERS, COMMON_SORTS, made, standard
from muster.api.network.listing import NULLABLE, TEXT, Filter, Listing, chosen, list_response, read_query
from muster.api.network.validators import boolean, one_of, or_none, prefix, text, to_integer
from muster.base.ids import new_uuid
from muster.domain.network_errors import network_error
from muster.domain.security_groups import EGRESS, ETHERTYPES, INGRESS, PROTOCOL_NUMBERS, NewRule, SecurityGroupRule
from muster.services.security_group_rules import SecurityGroupRules as Service

ID_LIMIT = 255  # what names no group is answered 404 and not 400, as Neutron does


def _protocol(value: Any) -> str | None:
    """A protocol's name in lower case or its number as text; None and `any` for all."""
    shown = value.lower() if isinstance(value, str) else value
    if shown is None or shown == "any":
        return None
    if isinstance(shown, str) and shown in PROTOCOL_NUMBERS:
        return shown
    try:
        number = to_integer(shown)
    except ValueError:
        number = -1
    if not 0 <= number <= 255:
        raise network_error(
            "SecurityGroupRuleInvalidProtocol", protocol=str(value)[:80], values=[None, *PROTOCOL_NUMBERS]
        )
    return str(number)


def _ethertype(value: Any) -> str:
    for name in ETHERTYPES:
        if isinstance(value, str) and value.lower() == name.lower():
            return name
    raise network_error("SecurityGroupRuleInvalidEtherType", ethertype=str(value)[:80])


def _port(value: Any) -> int | None:
    if value is None:
        return None
    try:
        number = to_integer(value)
    except ValueError as error:
        raise network_error("SecurityGroupInvalidPortValue", port=str(value)[:80]) from error
    if not 0 <= number <= 65535:
        raise network_error("SecurityGroupInvalidPortValue", port=number)
    return number


COMMON_OF_RULES = {name: attribute for name, attribute in COMMON.items() if name != "name"}

RULE = Resource(
    name="security_group_rule",
    collection="security_group_rules",
    attributes={
        **COMMON_OF_RULES,
        "security_group_id": Attribute(validate=text(ID_LIMIT), required=True, update=False),
        "direction": Attribute(validate=one_of(INGRESS, EGRESS), required=True, update=False),
        "ethertype": Attribute(validate=_ethertype, update=False),
        "protocol": Attribute(validate=_protocol, update=False),
        "port_range_min": Attribute(validate=_port, update=False),
        "port_range_max": Attribute(validate=_port, update=False),
        "remote_ip_prefix": Attribute(validate=or_none(prefix), update=False),
        "remote_group_id": Attribute(validate=or_none(text(ID_LIMIT)), update=False),
        **read_only("normalized_cidr", "belongs_to_default_sg"),
    },
)

LISTING = Listing(
    collection="security_group_rules",
    filters={
        **{name: one for name, one in COMMON_FILTERS.items() if name != "name"},
        "security_group_id": TEXT,
        "direction": TEXT,
        "ethertype": TEXT,
        "protocol": NULLABLE,
        "port_range_min": Filter(convert=to_integer),
        "port_range_max": Filter(convert=to_integer),
        "remote_ip_prefix": NULLABLE,
        "remote_group_id": NULLABLE,
        "belongs_to_default_sg": Filter("belongs_to_default", boolean),
    },
    sorts={
        **{name: field for name, field in COMMON_SORTS.items() if name != "name"},
        "security_group_id": "security_group_id",
        "direction": "direction",
        "ethertype": "ethertype",
        "protocol": "protocol",
        "port_range_min": "port_range_min",
        "port_range_max": "port_range_max",
        "remote_ip_prefix": "remote_ip_prefix",
        "remote_group_id": "remote_group_id",
    },
    has_tags=False,
)


class SecurityGroupRules:
    """Handlers."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def create(self, request: Request) -> Response:
        items, bulk = await read_new(request, RULE)
        rules = await self._service.create(request.context, [NewRule(id=new_uuid(), **item) for item in items])
        return made(RULE, [view(rule) for rule in rules], bulk=bulk)

    async def list(self, request: Request) -> Response:
        query = read_query(request, LISTING)
        rules = await self._service.page(request.context, query)
        return list_response(request, LISTING, query, [view(rule) for rule in rules])

    async def show(self, request: Request) -> Response:
        rule = await self._service.get(request.context, request.parameters["rule_id"])
        return Response({"security_group_rule": chosen(request, view(rule))})

    async def delete(self, request: Request) -> Response:
        await self._service.delete(request.context, request.parameters["rule_id"])
        return Response(status=204)


def view(rule: SecurityGroupRule) -> dict[str, Any]:
    """A rule as clients see it."""
    shown = standard(rule)
    shown.update(
        {
            "security_group_id": rule.security_group_id,
            "direction": rule.direction,
            "ethertype": rule.ethertype,
            "protocol": rule.protocol,
            "port_range_min": rule.port_range_min,
            "port_range_max": rule.port_range_max,
            "remote_ip_prefix": rule.remote_ip_prefix,
            "remote_group_id": rule.remote_group_id,
            "normalized_cidr": rule.normalized_cidr,
            "belongs_to_default_sg": rule.belongs_to_default,
        }
    )
    return shown
