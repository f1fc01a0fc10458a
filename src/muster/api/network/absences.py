"""What Neutron's extensions have and this cloud has not."""

from muster.api.http.absences import Absences

_ROUTERS = "routers and no floating addresses; servers are reached at the addresses of their networks"
_SCHEDULING = "scheduling of agents; each host serves its own servers"

ABSENCES: Absences = {
    "/v2.0/routers": _ROUTERS,
    "/v2.0/floatingips": _ROUTERS,
    "/v2.0/ndp_proxies": _ROUTERS,
    "/v2.0/subnetpools": "subnet pools; a subnet is made with a range of its own (cidr)",
    "/v2.0/address-scopes": "address scopes",
    "/v2.0/address-groups": "address groups; a rule names a range (remote_ip_prefix) or a security group",
    "/v2.0/rbac-policies": "RBAC policies; an administrator can share a network with all projects (shared)",
    "/v2.0/trunks": "trunks",
    "/v2.0/qos": "QoS policies",
    "/v2.0/policies": "QoS policies",
    "/v2.0/segments": "segments to be managed; each network has one",
    "/v2.0/network_segment_ranges": "segment ranges",
    "/v2.0/default-security-group-rules": "rules for default groups to be managed; change a project's own group",
    "/v2.0/security-groups-default-statefulness": "statefulness of projects; say it of each group (stateful)",
    "/v2.0/auto-allocated-topology": "networks made by themselves; make a network with a subnet, or use a shared one",
    "/v2.0/networks/*/dhcp-agents": _SCHEDULING,
    "/v2.0/agents/*/dhcp-networks": _SCHEDULING,
    "/v2.0/agents/*/l3-routers": _ROUTERS,
    "/v2.0/metering": "metering",
    "/v2.0/flavors": "flavors of network services",
    "/v2.0/service_profiles": "flavors of network services",
    "/v2.0/local_ips": "local addresses",
    "/v2.0/log": "logging of rules",
    "/v2.0/lbaas": "load balancers",
    "/v2.0/vpn": "VPN",
    "/v2.0/fwaas": "firewall groups; use security groups",
}
