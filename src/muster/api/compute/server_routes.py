"""The routes of servers and of what is under them."""

from muster.api.compute.server_actions import ServerActionHandlers
from muster.api.compute.server_bodies import Lookups
from muster.api.compute.server_diagnostics import ServerDiagnosticsHandlers
from muster.api.compute.server_instance_actions import ServerInstanceActionHandlers
from muster.api.compute.server_interfaces import ServerInterfaceHandlers
from muster.api.compute.server_metadata import ServerMetadataHandlers
from muster.api.compute.server_remains import ServerRemainHandlers
from muster.api.compute.server_tags import ServerTagHandlers
from muster.api.compute.servers import ServerHandlers
from muster.api.compute.services import Services
from muster.api.http.routing import Route, Routes
from muster.domain.policies import Rule

_READER, _MEMBER = Rule.PROJECT_READER, Rule.PROJECT_MEMBER
_SERVERS = "/v2.1/servers"
_SERVER = "/v2.1/servers/{server_id}"


def server_routes(services: Services) -> Routes:
    """Method and path to handler and rule, to be joined with the compute API's table."""
    lookups = Lookups(services)
    servers = ServerHandlers(services, lookups)
    actions = ServerActionHandlers(services, lookups)
    done = ServerInstanceActionHandlers(services)
    return {
        ("POST", _SERVERS): Route(servers.create, _MEMBER),
        ("GET", _SERVERS): Route(servers.index, _READER),
        ("GET", f"{_SERVERS}/detail"): Route(servers.detail, _READER),
        ("GET", _SERVER): Route(servers.show, _READER),
        ("PUT", _SERVER): Route(servers.update, _MEMBER),
        ("DELETE", _SERVER): Route(servers.delete, _MEMBER),
        ("POST", f"{_SERVER}/action"): Route(actions.act, _MEMBER),
        ("GET", f"{_SERVER}/os-instance-actions"): Route(done.index, _READER),
        ("GET", f"{_SERVER}/os-instance-actions/{{action_request_id}}"): Route(done.show, _READER),
        **_metadata_routes(services),
        **_tag_routes(services),
        **_interface_routes(services),
        **_remaining_routes(services),
    }


def _metadata_routes(services: Services) -> Routes:
    handlers = ServerMetadataHandlers(services)
    return {
        ("GET", f"{_SERVER}/metadata"): Route(handlers.index, _READER),
        ("PUT", f"{_SERVER}/metadata"): Route(handlers.replace, _MEMBER),
        ("POST", f"{_SERVER}/metadata"): Route(handlers.merge, _MEMBER),
        ("GET", f"{_SERVER}/metadata/{{key}}"): Route(handlers.show, _READER),
        ("PUT", f"{_SERVER}/metadata/{{key}}"): Route(handlers.update, _MEMBER),
        ("DELETE", f"{_SERVER}/metadata/{{key}}"): Route(handlers.delete, _MEMBER),
    }


def _tag_routes(services: Services) -> Routes:
    handlers = ServerTagHandlers(services)
    since = (2, 26)
    return {
        ("GET", f"{_SERVER}/tags"): Route(handlers.index, _READER, since=since),
        ("PUT", f"{_SERVER}/tags"): Route(handlers.replace, _MEMBER, since=since),
        ("DELETE", f"{_SERVER}/tags"): Route(handlers.delete_all, _MEMBER, since=since),
        ("GET", f"{_SERVER}/tags/{{tag}}"): Route(handlers.show, _READER, since=since),
        ("PUT", f"{_SERVER}/tags/{{tag}}"): Route(handlers.add, _MEMBER, since=since),
        ("DELETE", f"{_SERVER}/tags/{{tag}}"): Route(handlers.delete, _MEMBER, since=since),
    }


def _interface_routes(services: Services) -> Routes:
    handlers = ServerInterfaceHandlers(services)
    return {
        ("GET", f"{_SERVER}/os-interface"): Route(handlers.index, _READER),
        ("POST", f"{_SERVER}/os-interface"): Route(handlers.create, _MEMBER),
        ("GET", f"{_SERVER}/os-interface/{{port_id}}"): Route(handlers.show, _READER),
        ("DELETE", f"{_SERVER}/os-interface/{{port_id}}"): Route(handlers.delete, _MEMBER),
        ("GET", f"{_SERVER}/os-security-groups"): Route(handlers.groups, _READER),
        ("GET", f"{_SERVER}/ips"): Route(handlers.addresses, _READER),
        ("GET", f"{_SERVER}/ips/{{network_label}}"): Route(handlers.addresses_on, _READER),
    }


def _remaining_routes(services: Services) -> Routes:
    handlers, diagnostics = ServerRemainHandlers(services), ServerDiagnosticsHandlers(services)
    return {
        ("GET", f"{_SERVER}/os-server-password"): Route(handlers.password, _READER),
        ("DELETE", f"{_SERVER}/os-server-password"): Route(handlers.clear_password, _MEMBER),
        ("GET", f"{_SERVER}/diagnostics"): Route(diagnostics.show, Rule.ADMIN),
        ("GET", f"{_SERVER}/os-volume_attachments"): Route(handlers.volumes, _READER),
        ("POST", f"{_SERVER}/os-volume_attachments"): Route(handlers.no_volumes, _MEMBER),
        ("POST", f"{_SERVER}/remote-consoles"): Route(handlers.no_consoles, _MEMBER, since=(2, 6)),
        ("GET", f"{_SERVER}/migrations"): Route(handlers.migrations, Rule.ADMIN, since=(2, 23)),
        ("GET", f"{_SERVER}/topology"): Route(handlers.topology, _READER, since=(2, 78)),
    }
