"""Security groups over HTTP."""

from typing import Any

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.network.attributes import COMMON, Attribute, Resource, read_changes, read_new, read_only
from muster.api.network.common import COMMON_FILTERS, COMMON_SORTS, made, standard
from muster.api.network.listing import FLAG, Listing, chosen, list_response, read_query
from muster.api.network.security_group_rules import view as rule_view
from muster.api.network.validators import boolean, text
from muster.base.ids import new_uuid
from muster.domain.network_errors import network_error
from muster.domain.security_groups import DEFAULT_NAME, NewSecurityGroup, SecurityGroup, SecurityGroupChanges
from muster.services.security_groups import SecurityGroups as Service


def _name(value: Any) -> str:
    name: str = text()(value)
    if name.lower() == DEFAULT_NAME:
        raise network_error("SecurityGroupDefaultAlreadyExists")
    return name


SECURITY_GROUP = Resource(
    name="security_group",
    collection="security_groups",
    attributes={
        **COMMON,
        "name": Attribute(validate=_name),
        "stateful": Attribute(validate=boolean),
        **read_only("security_group_rules", "shared", "tags"),
    },
)

LISTING = Listing(
    collection="security_groups",
    filters={**COMMON_FILTERS, "stateful": FLAG, "shared": FLAG},
    sorts={**COMMON_SORTS, "stateful": "stateful"},
)


class SecurityGroups:
    """Handlers."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def create(self, request: Request) -> Response:
        items, bulk = await read_new(request, SECURITY_GROUP)
        drafts = [NewSecurityGroup(id=new_uuid(), **item) for item in items]
        groups = await self._service.create(request.context, drafts)
        return made(SECURITY_GROUP, [view(group) for group in groups], bulk=bulk)

    async def list(self, request: Request) -> Response:
        query = read_query(request, LISTING)
        groups = await self._service.page(request.context, query)
        return list_response(request, LISTING, query, [view(group) for group in groups])

    async def show(self, request: Request) -> Response:
        group = await self._service.get(request.context, request.parameters["group_id"])
        return Response({"security_group": chosen(request, view(group))})

    async def update(self, request: Request) -> Response:
        fields = await read_changes(request, SECURITY_GROUP)
        group_id = request.parameters["group_id"]
        group = await self._service.update(request.context, group_id, SecurityGroupChanges(**fields))
        return Response({"security_group": view(group)})

    async def delete(self, request: Request) -> Response:
        await self._service.delete(request.context, request.parameters["group_id"])
        return Response(status=204)


def view(group: SecurityGroup) -> dict[str, Any]:
    """A security group as clients see it."""
    shown = standard(group)
    shown["stateful"] = group.stateful
    shown["shared"] = False
    shown["security_group_rules"] = [rule_view(rule) for rule in group.rules]
    shown["tags"] = group.tags
    return shown
