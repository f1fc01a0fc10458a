"""The whole network API on one page: method and path, what answers, and who may ask.

What depends on who owns a resource is checked by the services.
"""

from muster.api.http.routing import Route, Routes
from muster.api.network.agents import Agents
from muster.api.network.extensions import Extensions
from muster.api.network.network_ip_availabilities import NetworkIpAvailabilities
from muster.api.network.networks import Networks
from muster.api.network.ports import Ports
from muster.api.network.quotas import Quotas
from muster.api.network.security_group_rules import SecurityGroupRules
from muster.api.network.security_groups import SecurityGroups
from muster.api.network.services import Services
from muster.api.network.subnets import Subnets
from muster.api.network.tags import Tags
from muster.api.network.versions import Versions
from muster.domain.policies import Rule
from muster.services.network_tags import NetworkTags

READER = Rule.PROJECT_READER
MEMBER = Rule.PROJECT_MEMBER
ADMIN = Rule.ADMIN


def routes(services: Services) -> Routes:
    """The route table."""
    return {
        **_discovery(),
        **_networks(Networks(services.networks, services.security_groups)),
        **_subnets(Subnets(services.subnets)),
        **_ports(Ports(services.ports, services.dns_domain)),
        **_security_groups(SecurityGroups(services.security_groups)),
        **_security_group_rules(SecurityGroupRules(services.security_group_rules)),
        **_quotas(Quotas(services.quotas)),
        **_agents(Agents(services.agents)),
        **_ip_availability(NetworkIpAvailabilities(services.ip_availability)),
        **_tags("networks", "network_id", services.tags),
        **_tags("subnets", "subnet_id", services.tags),
        **_tags("ports", "port_id", services.tags),
        **_tags("security-groups", "group_id", services.tags),
    }


def _discovery() -> Routes:
    versions, extensions = Versions(), Extensions()
    return {
        ("GET", "/"): Route(versions.list, Rule.PUBLIC),
        ("GET", "/v2.0"): Route(versions.show, Rule.PUBLIC),
        ("GET", "/v2.0/extensions"): Route(extensions.list, READER),
        ("GET", "/v2.0/extensions/{alias}"): Route(extensions.show, READER),
        ("GET", "/v2.0/service-providers"): Route(extensions.providers, READER),
    }


def _networks(handlers: Networks) -> Routes:
    return {
        ("POST", "/v2.0/networks"): Route(handlers.create, MEMBER),
        ("GET", "/v2.0/networks"): Route(handlers.list, READER),
        ("GET", "/v2.0/networks/{network_id}"): Route(handlers.show, READER),
        ("PUT", "/v2.0/networks/{network_id}"): Route(handlers.update, MEMBER),
        ("DELETE", "/v2.0/networks/{network_id}"): Route(handlers.delete, MEMBER),
    }


def _subnets(handlers: Subnets) -> Routes:
    return {
        ("POST", "/v2.0/subnets"): Route(handlers.create, MEMBER),
        ("GET", "/v2.0/subnets"): Route(handlers.list, READER),
        ("GET", "/v2.0/subnets/{subnet_id}"): Route(handlers.show, READER),
        ("PUT", "/v2.0/subnets/{subnet_id}"): Route(handlers.update, MEMBER),
        ("DELETE", "/v2.0/subnets/{subnet_id}"): Route(handlers.delete, MEMBER),
    }


def _ports(handlers: Ports) -> Routes:
    return {
        ("POST", "/v2.0/ports"): Route(handlers.create, MEMBER),
        ("GET", "/v2.0/ports"): Route(handlers.list, READER),
        ("GET", "/v2.0/ports/{port_id}"): Route(handlers.show, READER),
        ("PUT", "/v2.0/ports/{port_id}"): Route(handlers.update, MEMBER),
        ("DELETE", "/v2.0/ports/{port_id}"): Route(handlers.delete, MEMBER),
    }


def _security_groups(handlers: SecurityGroups) -> Routes:
    return {
        ("POST", "/v2.0/security-groups"): Route(handlers.create, MEMBER),
        ("GET", "/v2.0/security-groups"): Route(handlers.list, READER),
        ("GET", "/v2.0/security-groups/{group_id}"): Route(handlers.show, READER),
        ("PUT", "/v2.0/security-groups/{group_id}"): Route(handlers.update, MEMBER),
        ("DELETE", "/v2.0/security-groups/{group_id}"): Route(handlers.delete, MEMBER),
    }


def _security_group_rules(handlers: SecurityGroupRules) -> Routes:
    return {
        ("POST", "/v2.0/security-group-rules"): Route(handlers.create, MEMBER),
        ("GET", "/v2.0/security-group-rules"): Route(handlers.list, READER),
        ("GET", "/v2.0/security-group-rules/{rule_id}"): Route(handlers.show, READER),
        ("DELETE", "/v2.0/security-group-rules/{rule_id}"): Route(handlers.delete, MEMBER),
    }


def _quotas(handlers: Quotas) -> Routes:
    return {
        ("GET", "/v2.0/quotas"): Route(handlers.list, ADMIN),
        ("GET", "/v2.0/quotas/tenant"): Route(handlers.project, READER),
        ("GET", "/v2.0/quotas/project"): Route(handlers.project, READER),
        ("GET", "/v2.0/quotas/{project_id}"): Route(handlers.show, READER),
        ("GET", "/v2.0/quotas/{project_id}/default"): Route(handlers.defaults, READER),
        ("GET", "/v2.0/quotas/{project_id}/details"): Route(handlers.details, READER),
        ("GET", "/v2.0/quotas/{project_id}/details.json"): Route(handlers.details, READER),
        ("PUT", "/v2.0/quotas/{project_id}"): Route(handlers.update, ADMIN),
        ("DELETE", "/v2.0/quotas/{project_id}"): Route(handlers.delete, ADMIN),
    }


def _agents(handlers: Agents) -> Routes:
    return {
        ("GET", "/v2.0/agents"): Route(handlers.list, READER),
        ("GET", "/v2.0/agents/{agent_id}"): Route(handlers.show, ADMIN),
        ("PUT", "/v2.0/agents/{agent_id}"): Route(handlers.refuse, ADMIN),
        ("DELETE", "/v2.0/agents/{agent_id}"): Route(handlers.refuse, ADMIN),
        ("GET", "/v2.0/availability_zones"): Route(handlers.zones, READER),
    }


def _ip_availability(handlers: NetworkIpAvailabilities) -> Routes:
    return {
        ("GET", "/v2.0/network-ip-availabilities"): Route(handlers.list, ADMIN),
        ("GET", "/v2.0/network-ip-availabilities/{network_id}"): Route(handlers.show, ADMIN),
    }


def _tags(kind: str, parameter: str, service: NetworkTags) -> Routes:
    handlers = Tags(service, kind, parameter)
    path = f"/v2.0/{kind}/{{{parameter}}}/tags"
    return {
        ("GET", path): Route(handlers.list, READER),
        ("PUT", path): Route(handlers.replace, MEMBER),
        ("DELETE", path): Route(handlers.remove_all, MEMBER),
        ("GET", path + "/{tag}"): Route(handlers.confirm, READER),
        ("PUT", path + "/{tag}"): Route(handlers.add, MEMBER),
        ("DELETE", path + "/{tag}"): Route(handlers.remove, MEMBER),
    }
