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


def compute(made: dict[str, str]) -> list[Sample]:
    """Bodies of the compute API, of everything but servers."""
    flavor = {
        "name": "f%d",
        "ram": 1,
        "vcpus": 1,
        "disk": 1,
        "id": "auto",
        "swap": 0,
        "rxtx_factor": 1.0,
        "os-flavor-access:is_public": True,
        "OS-FLV-EXT-DATA:ephemeral": 0,
        "description": "d",
    }
    keypair = {"name": "k%d", "public_key": made["public_key"], "type": "ssh", "user_id": made["me"]}
    group = {"name": "g", "policy": "anti-affinity", "rules": {"max_server_per_host": 3}}
    v2 = "/compute/v2.1"
    aggregate = f"{v2}/os-aggregates/{made['aggregate']}"
    return [
        ("POST", f"{v2}/os-keypairs", {"keypair": keypair}),
        ("POST", f"{v2}/flavors", {"flavor": flavor}),
        ("POST", f"{v2}/flavors/{made['flavor']}/os-extra_specs", {"extra_specs": {"hw:cpu_policy": "shared"}}),
        ("PUT", f"{v2}/os-quota-sets/{made['project']}", {"quota_set": {"instances": 3, "cores": 4, "force": True}}),
        ("PUT", f"{v2}/flavors/{made['flavor']}", {"flavor": {"description": "d"}}),
        ("PUT", f"{v2}/flavors/{made['flavor']}/os-extra_specs/hw:cpu_policy", {"hw:cpu_policy": "shared"}),
        ("POST", f"{v2}/flavors/{made['private_flavor']}/action", {"addTenantAccess": {"tenant": made["project"]}}),
        ("PUT", f"{v2}/os-quota-class-sets/default", {"quota_class_set": {"instances": 50, "key_pairs": "1000"}}),
        ("POST", f"{v2}/os-server-groups", {"server_group": group}),
        ("PUT", f"{v2}/os-services/{made['compute_service']}", {"status": "disabled", "disabled_reason": "x"}),
        ("PUT", f"{v2}/os-services/{made['compute_service']}", {"status": "enabled", "forced_down": False}),
        ("POST", f"{v2}/os-aggregates", {"aggregate": {"name": "g%d", "availability_zone": "nova"}}),
        ("PUT", aggregate, {"aggregate": {"name": "h%d", "availability_zone": "nova"}}),
        ("POST", f"{aggregate}/action", {"set_metadata": {"metadata": {"a": "b", "c": None}}}),
        ("POST", f"{aggregate}/action", {"add_host": {"host": "sim-0001"}}),
    ]


def servers(made: dict[str, str]) -> list[Sample]:
    """Bodies of the compute API about servers."""
    image = {"uuid": made["guest"], "source_type": "image", "destination_type": "local", "boot_index": 0}
    server = {
        "name": "s",
        "flavorRef": "1",
        "imageRef": made["guest"],
        "networks": [{"uuid": made["network"]}],
        "metadata": {"a": "b"},
        "user_data": "aGVsbG8=",
        "config_drive": True,
        "availability_zone": "nova",
        "min_count": 1,
        "max_count": 1,
        "key_name": made["key"],
        "security_groups": [{"name": "default"}],
        "description": "d",
        "tags": ["x"],
        "hostname": "host",
        "block_device_mapping_v2": [{**image, "delete_on_termination": True}],
        "OS-DCF:diskConfig": "AUTO",
        "accessIPv4": "1.2.3.4",
        "adminPass": "x",
    }
    rebuild = {
        "imageRef": made["guest"],
        "name": "x",
        "metadata": {"a": "b"},
        "key_name": made["key"],
        "user_data": "aGk=",
        "hostname": "quest",
        "description": "z",
        "adminPass": "p",
    }
    one = f"/compute/v2.1/servers/{made['server']}"
    quiet = [{"lock": {"locked_reason": "x"}}, {"unlock": None}, {"addSecurityGroup": {"name": "default"}}]
    busy = [{"os-resetState": {"state": "active"}}, {"rebuild": rebuild}, {"reboot": {"type": "HARD"}}]
    change = {"name": "q", "accessIPv4": "1.1.1.1", "accessIPv6": "::1", "description": "x", "hostname": "host"}
    return [
        ("POST", "/compute/v2.1/servers", {"server": server, "os:scheduler_hints": {"group": made["server_group"]}}),
        *[("POST", f"{one}/action", action) for action in quiet],
        ("PUT", one, {"server": change}),
        ("POST", f"{one}/metadata", {"metadata": {"a": "b"}}),
        ("PUT", f"{one}/metadata/a", {"meta": {"a": "b"}}),
        ("PUT", f"{one}/tags", {"tags": ["a"]}),
        ("POST", f"{one}/os-interface", {"interfaceAttachment": {"net_id": made["network"], "tag": "x"}}),
        *[("POST", f"{one}/action", action) for action in busy],
    ]
