"""The compute API's whole route table."""

from muster.api.compute import versions
from muster.api.compute.flavor_access import flavor_access_routes
from muster.api.compute.flavor_extra_specs import flavor_extra_spec_routes
from muster.api.compute.flavors import flavor_routes
from muster.api.compute.keypairs import keypair_routes
from muster.api.compute.limits import limit_routes
from muster.api.compute.quotas import quota_routes
from muster.api.compute.server_actions import ServerActionHandlers
from muster.api.compute.server_bodies import Lookups
from muster.api.compute.server_details import server_detail_routes
from muster.api.compute.server_groups import server_group_routes
from muster.api.compute.servers import ServerHandlers
from muster.api.compute.services import Services
from muster.api.http.routing import Route, Routes
from muster.domain.policies import Rule

READER, MEMBER = Rule.PROJECT_READER, Rule.PROJECT_MEMBER


def routes(services: Services) -> Routes:
    """Method and path to handler and rule."""
    lookups = Lookups(services)
    servers = ServerHandlers(services, lookups)
    actions = ServerActionHandlers(services)
    return {
        ("GET", "/"): Route(versions.index, Rule.PUBLIC),
        ("GET", "/v2.1"): Route(versions.show, Rule.PUBLIC),
        ("POST", "/v2.1/servers"): Route(servers.create, MEMBER),
        ("GET", "/v2.1/servers"): Route(servers.index, READER),
        ("GET", "/v2.1/servers/detail"): Route(servers.detail, READER),
        ("GET", "/v2.1/servers/{server_id}"): Route(servers.show, READER),
        ("DELETE", "/v2.1/servers/{server_id}"): Route(servers.delete, MEMBER),
        ("POST", "/v2.1/servers/{server_id}/action"): Route(actions.act, MEMBER),
        ("GET", "/v2.1/servers/{server_id}/os-instance-actions"): Route(actions.index, READER),
        **flavor_routes(services.flavors),
        **flavor_extra_spec_routes(services.flavors),
        **flavor_access_routes(services.flavors),
        **keypair_routes(services.keypairs),
        **limit_routes(services.quotas),
        **quota_routes(services.quotas),
        **server_group_routes(services.server_groups),
        **server_detail_routes(services.servers),
    }
