"""The compute API's whole route table."""

from muster.api.compute import versions
from muster.api.compute.aggregates import aggregate_routes
from muster.api.compute.availability_zones import availability_zone_routes
from muster.api.compute.compute_services import compute_service_routes
from muster.api.compute.extensions import extension_routes
from muster.api.compute.flavor_access import flavor_access_routes
from muster.api.compute.flavor_extra_specs import flavor_extra_spec_routes
from muster.api.compute.flavors import flavor_routes
from muster.api.compute.hosts import host_routes
from muster.api.compute.hypervisors import hypervisor_routes
from muster.api.compute.keypairs import keypair_routes
from muster.api.compute.limits import limit_routes
from muster.api.compute.migrations import migration_routes
from muster.api.compute.quotas import quota_routes
from muster.api.compute.server_groups import server_group_routes
from muster.api.compute.server_routes import server_routes
from muster.api.compute.services import Services
from muster.api.compute.tenant_usages import tenant_usage_routes
from muster.api.compute.usage_audits import usage_audit_routes
from muster.api.http.routing import Route, Routes
from muster.domain.policies import Rule


def routes(services: Services) -> Routes:
    """Method and path to handler and rule."""
    return {
        ("GET", "/"): Route(versions.index, Rule.PUBLIC),
        ("GET", "/v2.1"): Route(versions.show, Rule.PUBLIC),
        **aggregate_routes(services.aggregates),
        **extension_routes(),
        **flavor_routes(services.flavors),
        **flavor_extra_spec_routes(services.flavors),
        **flavor_access_routes(services.flavors),
        **availability_zone_routes(services.hypervisors),
        **compute_service_routes(services.hypervisors),
        **host_routes(services.hypervisors),
        **hypervisor_routes(services.hypervisors),
        **keypair_routes(services.keypairs),
        **limit_routes(services.quotas),
        **migration_routes(),
        **quota_routes(services.quotas, services.user_quotas),
        **server_group_routes(services.server_groups),
        **server_routes(services),
        **tenant_usage_routes(services.tenant_usages),
        **usage_audit_routes(services.hypervisors),
    }
