"""How full networks are, over HTTP."""

from typing import Any

from msgspec.structs import replace

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.network.listing import NUMBER, TEXT, Filter, Listing, chosen, list_response, read_query
from muster.domain.network_listing import Condition
from muster.services.network_ip_availability import NetworkAvailability, NetworkIpAvailability

LISTING = Listing(
    collection="network_ip_availabilities",
    filters={
        "network_id": Filter("id"),
        "network_name": Filter("name"),
        "tenant_id": Filter("project_id"),
        "project_id": TEXT,
        "ip_version": NUMBER,
    },
    sorts={"network_id": "id", "network_name": "name", "tenant_id": "project_id", "project_id": "project_id"},
    has_tags=False,
    key="network_id",
)


class NetworkIpAvailabilities:
    """Handlers."""

    def __init__(self, service: NetworkIpAvailability) -> None:
        self._service = service

    async def list(self, request: Request) -> Response:
        query = read_query(request, LISTING)
        versions = [one for one in query.conditions if one.field == "ip_version"]
        others = tuple(one for one in query.conditions if one.field != "ip_version")
        found = await self._service.page(replace(query, conditions=others))
        return list_response(request, LISTING, query, [view(one, versions) for one in found])

    async def show(self, request: Request) -> Response:
        found = await self._service.get(request.parameters["network_id"])
        return Response({"network_ip_availability": chosen(request, view(found, []))})


def view(one: NetworkAvailability, versions: list[Condition]) -> dict[str, Any]:
    """A network's addresses, those of the chosen IP versions only."""
    subnets = [part for part in one.subnets if all(part.subnet.ip_version in version.values for version in versions)]
    return {
        "network_id": one.network.id,
        "network_name": one.network.name,
        "tenant_id": one.network.project_id,
        "project_id": one.network.project_id,
        "total_ips": _number(sum(part.total for part in subnets)),
        "used_ips": sum(part.used for part in subnets),
        "subnet_ip_availability": [
            {
                "subnet_id": part.subnet.id,
                "subnet_name": part.subnet.name,
                "cidr": part.subnet.cidr,
                "ip_version": part.subnet.ip_version,
                "total_ips": _number(part.total),
                "used_ips": part.used,
            }
            for part in subnets
        ],
    }


def _number(total: int) -> int | float:
    """A count of addresses as JSON: beyond 64 bits (an IPv6 network) as a float, as Neutron shows it."""
    return total if total < 2**63 else float(total)
