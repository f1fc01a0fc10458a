"""A valid request for each body that the APIs take: (method, path, body). `%d` in a text is made unique."""

from typing import Any

Sample = tuple[str, str, Any]
PASSWORD = "sweep"


def identity(made: dict[str, str]) -> list[Sample]:
    """Bodies of the identity API."""
    who = {"user": {"id": made["user"], "password": PASSWORD}}
    by_password = {"methods": ["password"], "password": who}
    by_token = {"methods": ["token"], "token": {"id": made["token"]}}
    project = {"name": "p%d", "domain_id": "default", "description": "d", "enabled": True, "tags": ["a"], "options": {}}
    user = {"name": "u%d", "password": "pw", "domain_id": "default", "enabled": True, "email": "x@y", "options": {}}
    credential = {
        "name": "a%d",
        "secret": "s",
        "description": "d",
        "expires_at": "2099-01-01T00:00:00.000000",
        "roles": [{"name": "admin"}],
        "unrestricted": False,
    }
    endpoint = {"interface": "public", "region_id": "RegionOne", "url": "http://x", "service_id": made["service"]}
    v3 = "/identity/v3"
    return [
        ("POST", f"{v3}/auth/tokens", {"auth": {"identity": by_password}}),
        ("POST", f"{v3}/auth/tokens", {"auth": {"identity": by_token, "scope": {"project": {"id": made["admin"]}}}}),
        ("POST", f"{v3}/projects", {"project": project}),
        ("PATCH", f"{v3}/projects/{made['project']}", {"project": {"name": "p%d", "enabled": True, "tags": ["a"]}}),
        ("PUT", f"{v3}/projects/{made['project']}/tags", {"tags": ["a", "b"]}),
        ("POST", f"{v3}/users", {"user": {**user, "default_project_id": made["project"]}}),
        ("PATCH", f"{v3}/users/{made['victim']}", {"user": {"name": "v%d", "password": "pw", "enabled": True}}),
        ("POST", f"{v3}/users/{made['me']}/application_credentials", {"application_credential": credential}),
        ("POST", f"{v3}/roles", {"role": {"name": "r%d", "description": "d", "options": {}}}),
        ("POST", f"{v3}/domains", {"domain": {"name": "d%d", "enabled": True, "description": "x"}}),
        ("POST", f"{v3}/groups", {"group": {"name": "g%d", "domain_id": "default", "description": "d"}}),
        ("POST", f"{v3}/services", {"service": {"type": "t", "name": "n", "enabled": True, "description": "d"}}),
        ("POST", f"{v3}/regions", {"region": {"id": "r%d", "description": "d"}}),
        ("POST", f"{v3}/endpoints", {"endpoint": {**endpoint, "enabled": True}}),
    ]


def network(made: dict[str, str]) -> list[Sample]:
    """Bodies of the network API."""
    new_network = {
        "name": "n",
        "admin_state_up": True,
        "shared": False,
        "router:external": False,
        "mtu": 1400,
        "description": "d",
        "port_security_enabled": True,
        "availability_zone_hints": [],
        "project_id": made["project"],
    }
    options = {
        "name": "s",
        "allocation_pools": [{"start": "10.9.0.10", "end": "10.9.0.200"}],
        "dns_nameservers": ["10.1.1.1"],
        "host_routes": [{"destination": "1.0.0.0/8", "nexthop": "10.9.0.1"}],
        "enable_dhcp": True,
    }
    subnet = {"network_id": made["plain_network"], "cidr": "10.%d.0.0/24", "ip_version": 4, "gateway_ip": None}
    v6 = {"network_id": made["plain_network"], "cidr": "fd00:%d::/64", "ip_version": 6}
    options_of_port = {
        "name": "p",
        "security_groups": [made["group"]],
        "admin_state_up": True,
        "allowed_address_pairs": [{"ip_address": "10.9.0.9", "mac_address": "fa:16:3e:00:00:02"}],
        "extra_dhcp_opts": [{"opt_name": "mtu", "opt_value": "1400", "ip_version": 4}],
        "binding:host_id": "h",
        "binding:profile": {},
        "dns_name": "x",
    }
    port = {**options_of_port, "network_id": made["network"], "fixed_ips": [{"subnet_id": made["subnet"]}]}
    rule = {
        "security_group_id": made["group"],
        "direction": "ingress",
        "ethertype": "IPv4",
        "protocol": "tcp",
        "port_range_min": 1,
        "port_range_max": "%d",
        "remote_ip_prefix": "10.0.0.0/8",
        "description": "d",
    }
    v2 = "/network/v2.0"
    return [
        ("POST", f"{v2}/networks", {"network": new_network}),
        ("POST", f"{v2}/networks", {"networks": [{"name": "a"}, {"name": "b"}]}),
        ("PUT", f"{v2}/networks/{made['network']}", {"network": {"name": "n", "mtu": 1400, "description": "d"}}),
        ("PUT", f"{v2}/networks/{made['network']}/tags", {"tags": ["a", "b"]}),
        ("POST", f"{v2}/subnets", {"subnet": subnet}),
        ("POST", f"{v2}/subnets", {"subnet": {**v6, "ipv6_address_mode": "slaac", "ipv6_ra_mode": "slaac"}}),
        ("PUT", f"{v2}/subnets/{made['subnet']}", {"subnet": options}),
        ("POST", f"{v2}/ports", {"port": port}),
        ("POST", f"{v2}/ports", {"ports": [{"network_id": made["network"]}, {"network_id": made["network"]}]}),
        ("PUT", f"{v2}/ports/{made['port']}", {"port": {**options_of_port, "device_id": "z", "device_owner": "y"}}),
        ("POST", f"{v2}/security-groups", {"security_group": {"name": "s", "description": "d", "stateful": True}}),
        ("POST", f"{v2}/security-group-rules", {"security_group_rule": rule}),
        ("PUT", f"{v2}/quotas/{made['project']}", {"quota": {"network": 5, "port": 6, "subnet": 7}}),
    ]


def image(made: dict[str, str]) -> list[Sample]:
    """Bodies of the image API."""
    new_image = {
        "name": "i",
        "disk_format": "raw",
        "container_format": "bare",
        "visibility": "private",
        "min_disk": 1,
        "min_ram": 1,
        "tags": ["a"],
        "protected": False,
        "os_hidden": False,
        "x": "y",
    }
    patch = [{"op": "replace", "path": "/name", "value": "z"}, {"op": "add", "path": "/q", "value": "z"}]
    v2 = "/image/v2/images"
    return [
        ("POST", v2, new_image),
        ("PATCH", f"{v2}/{made['image']}", patch),
        ("PUT", f"{v2}/{made['shared_image']}/members/{made['project']}", {"status": "accepted"}),
    ]
