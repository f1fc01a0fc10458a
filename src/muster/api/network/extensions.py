"""The extensions of the network API that are offered, which is how clients find out what they may ask for.

An alias is here only if what it stands for works; a test walks the list.
"""

from collections.abc import Mapping
from typing import Any

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.network.listing import FLAG, TEXT, Listing, chosen, list_response, read_query
from muster.base.errors import NotFound
from muster.domain.network_errors import CODE_PREFIX

EXTENSIONS: Mapping[str, tuple[str, str]] = {
    "agent": ("agent", "The agent management extension."),
    "allowed-address-pairs": ("Allowed Address Pairs", "Provides allowed address pairs"),
    "availability_zone": ("Availability Zone", "The availability zone extension."),
    "binding": ("Port Binding", "Expose port bindings of a virtual port to external application"),
    "dns-integration": ("DNS Integration", "Provides integration with DNS."),
    "empty-string-filtering": ("Empty String Filtering Extension", "Allow filtering by attributes with empty string."),
    "external-net": ("Neutron external network", "Adds external network attribute to network resource."),
    "extra_dhcp_opt": ("Neutron Extra DHCP options", "Extra options configuration for DHCP."),
    "filter-validation": ("Filter parameters validation", "Provides validation on filter parameters."),
    "ip-substring-filtering": ("IP address substring filtering", "Provides IP address substring filtering"),
    "net-mtu": ("Network MTU", "Provides MTU attribute for a network resource."),
    "net-mtu-writable": ("Network MTU (writable)", "Provides a writable MTU attribute for a network resource."),
    "network-ip-availability": ("Network IP Availability", "Provides IP availability data for each network."),
    "network_availability_zone": ("Network Availability Zone", "Availability zone support for network."),
    "pagination": ("Pagination support", "Extension that indicates that pagination is enabled."),
    "port-security": ("Port Security", "Provides port security"),
    "port-security-groups-filtering": ("Port filtering on security groups", "Filtering ports by security groups."),
    "project-id": ("project_id field enabled", "Extension that indicates that project_id field is enabled."),
    "provider": ("Provider Network", "Expose mapping of virtual networks to physical networks"),
    "quota-check-limit": ("Quota engine limit check", "Support for checking the resource usage before a new limit."),
    "quota_details": ("Quota details management support", "Expose functions for quotas usage statistics per project"),
    "quotas": ("Quota management support", "Expose functions for quotas management per project"),
    "security-group": ("security-group", "The security groups extension."),
    "security-groups-normalized-cidr": ("Normalized CIDR field for security group rules", "Adds normalized_cidr."),
    "security-groups-rules-belongs-to-default-sg": (
        "Security group rules belongs to default SG",
        "Flag to determine if the security group rule belongs to the default security group.",
    ),
    "service-type": ("Neutron Service Type Management", "API for retrieving service providers for services."),
    "sorting": ("Sorting support", "Extension that indicates that sorting is enabled."),
    "standard-attr-description": ("standard-attr-description", "Extension to add descriptions to standard attributes"),
    "standard-attr-revisions": ("Resource revision numbers", "Displays the revision number of resources."),
    "standard-attr-tag": ("Tag support for resources with standard attribute", "Enables to set tag on resources."),
    "standard-attr-timestamp": ("Resource timestamps", "Adds created_at and updated_at to all resources."),
    "stateful-security-group": ("Stateful security group", "Indicates if the security group is stateful or not"),
    "subnet-dns-publish-fixed-ip": ("Subnet DNS Publish Fixed IP", "Adds a field to subnets for DNS publication."),
    "subnet-service-types": ("Subnet service types", "Provides ability to set the subnet service_types field"),
    "tag-ports-during-bulk-creation": ("Tag Ports During Bulk Creation", "Allow to tag ports during bulk creation."),
}
PROVIDERS = Listing(
    collection="service_providers",
    filters={"service_type": TEXT, "name": TEXT, "default": FLAG},
    sorts={},
    has_tags=False,
    key="name",
)


class Extensions:
    """Handlers."""

    async def list(self, request: Request) -> Response:
        return Response({"extensions": [chosen(request, _view(alias)) for alias in EXTENSIONS]})

    async def show(self, request: Request) -> Response:
        alias = request.parameters["alias"]
        if alias not in EXTENSIONS:
            raise NotFound(f"Extension with alias {alias[:80]} does not exist", code=CODE_PREFIX + "HTTPNotFound")
        return Response({"extension": chosen(request, _view(alias))})

    async def providers(self, request: Request) -> Response:
        """Who provides further network services: nobody. Clients ask before they clean a project up."""
        return list_response(request, PROVIDERS, read_query(request, PROVIDERS), [])


def _view(alias: str) -> dict[str, Any]:
    name, description = EXTENSIONS[alias]
    return {
        "alias": alias,
        "name": name,
        "description": description,
        "updated": "2026-01-01T00:00:00-00:00",
        "links": [],
    }
