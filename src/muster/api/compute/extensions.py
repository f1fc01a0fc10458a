"""The list of extensions: what this cloud offers beyond servers, images and flavors, by Nova's aliases.

Extensions are history in Nova (all are always there since 2.1), but clients ask which ones there are.
"""

from typing import Any

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.http.routing import Route, Routes
from muster.base.errors import NotFound
from muster.domain.policies import Rule

# Alias, name, description.
EXTENSIONS = {
    alias: (name, description)
    for alias, name, description in (
        ("OS-DCF", "DiskConfig", "Disk Management Extension."),
        ("OS-EXT-AZ", "ExtendedAvailabilityZone", "Extended Availability Zone support."),
        ("OS-EXT-IPS", "ExtendedIps", "Adds type parameter to the ip list."),
        ("OS-EXT-IPS-MAC", "ExtendedIpsMac", "Adds mac address parameter to the ip list."),
        ("OS-EXT-SRV-ATTR", "ExtendedServerAttributes", "Extended Server Attributes support."),
        ("OS-EXT-STS", "ExtendedStatus", "Extended Status support."),
        ("OS-FLV-DISABLED", "FlavorDisabled", "Support to show the disabled status of a flavor."),
        ("OS-FLV-EXT-DATA", "FlavorExtraData", "Provide additional data for flavors."),
        ("OS-SCH-HNT", "SchedulerHints", "Pass arbitrary key/value pairs to the scheduler."),
        ("OS-SRV-USG", "ServerUsage", "Adds launched_at and terminated_at on Servers."),
        ("os-admin-actions", "AdminActions", "Enable admin-only server actions."),
        ("os-aggregates", "Aggregates", "Admin-only aggregate administration."),
        ("os-attach-interfaces", "AttachInterfaces", "Attach interface support."),
        ("os-availability-zone", "AvailabilityZone", "Add availability_zone to servers and list zones."),
        ("os-config-drive", "ConfigDrive", "Config Drive Extension."),
        ("os-console-output", "ConsoleOutput", "Console log output support, with tailing ability."),
        ("os-extended-quotas", "ExtendedQuotas", "Adds ability for admins to delete quota and force updates."),
        ("os-extended-services", "ExtendedServices", "Extended services support."),
        ("os-extended-services-delete", "ExtendedServicesDelete", "Extended services deletion support."),
        ("os-flavor-access", "FlavorAccess", "Flavor access support."),
        ("os-flavor-extra-specs", "FlavorExtraSpecs", "Flavors extra specs support."),
        ("os-flavor-manage", "FlavorManage", "Flavor create/delete API support."),
        ("os-flavor-rxtx", "FlavorRxtx", "Support to show the rxtx status of a flavor."),
        ("os-flavor-swap", "FlavorSwap", "Support to show the swap status of a flavor."),
        ("os-hosts", "Hosts", "Admin-only host administration."),
        ("os-hypervisors", "Hypervisors", "Admin-only hypervisor administration."),
        ("os-instance-actions", "InstanceActions", "View a log of actions and events taken on an instance."),
        ("os-keypairs", "Keypairs", "Keypair Support."),
        ("os-lock-server", "LockServer", "Enable lock/unlock server actions."),
        ("os-migrations", "Migrations", "Provide data on migrations."),
        ("os-multiple-create", "MultipleCreate", "Allow multiple create in the Create Server v2.1 API."),
        ("os-quota-class-sets", "QuotaClasses", "Quota classes management support."),
        ("os-quota-sets", "Quotas", "Quotas management support."),
        ("os-security-groups", "SecurityGroups", "Security group support."),
        ("os-server-group-quotas", "ServerGroupQuotas", "Adds quota support to server groups."),
        ("os-server-groups", "ServerGroups", "Server group support."),
        ("os-server-list-multi-status", "ServerListMultiStatus", "Allow filtering servers by multiple statuses."),
        ("os-server-start-stop", "ServerStartStop", "Start/Stop instance compute API support."),
        ("os-services", "Services", "Services support."),
        ("os-simple-tenant-usage", "SimpleTenantUsage", "Simple tenant usage extension."),
        ("os-used-limits", "UsedLimits", "Provide data on limited resources that are being used."),
        ("os-used-limits-for-admin", "UsedLimitsForAdmin", "Provide data to admin on limited resources in use."),
        ("os-user-data", "UserData", "Add user_data to the Create Server API."),
        ("os-user-quotas", "UserQuotas", "Project user quota support."),
    )
}


async def index(_request: Request) -> Response:
    """All extensions."""
    return Response({"extensions": [_view(alias) for alias in sorted(EXTENSIONS)]})


async def show(request: Request) -> Response:
    """One extension."""
    alias = request.parameters["alias"]
    if alias not in EXTENSIONS:
        raise NotFound("The resource could not be found.", code="compute.extension")
    return Response({"extension": _view(alias)})


def extension_routes() -> Routes:
    """Method and path to handler and rule."""
    return {
        ("GET", "/v2.1/extensions"): Route(index, Rule.PROJECT),
        ("GET", "/v2.1/extensions/{alias}"): Route(show, Rule.PROJECT),
    }


def _view(alias: str) -> dict[str, Any]:
    name, description = EXTENSIONS[alias]
    return {
        "alias": alias,
        "name": name,
        "description": description,
        "links": [],
        "namespace": "http://docs.openstack.org/compute/ext/fake_xml",
        "updated": "2014-12-03T00:00:00Z",
    }
