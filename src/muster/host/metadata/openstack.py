"""OpenStack's metadata documents, as Nova writes them. Source: Nova's user documentation, "Metadata".

Invariant: pure functions of their arguments; what they return belongs to one server alone.
"""

import base64
import binascii
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

import msgspec
from msgspec import Struct

from muster.base.errors import Invalid
from muster.domain.specs import FixedIp, NetworkSpec, PortSpec, ServerSpec, SubnetSpec
from muster.host.names import tap_name

#: The versions of the interface, oldest first; `latest` is the newest. The fields named beside them came with them.
VERSIONS = (
    "2012-08-10",
    "2013-04-04",  # random_seed
    "2013-10-17",  # vendor_data.json
    "2015-10-15",  # keys, project_id, network_data.json
    "2016-06-30",  # devices
    "2016-10-06",  # vendor_data2.json
    "2017-02-22",
    "2018-08-27",
)
LATEST = "latest"

_SEED, _VENDOR, _NETWORK, _DEVICES, _VENDOR2 = VERSIONS[1:6]


class Description(Struct, frozen=True, kw_only=True):
    """All that the documents are made of.

    `networks` are those of the server's ports by id, as far as known; a port of one that is not is described without
    addresses, for DHCP. `random_seed` starts the guest's random numbers; never the same for two servers.
    """

    server: ServerSpec
    networks: Mapping[str, NetworkSpec] = {}
    random_seed: bytes = b""
    domain: str = ""


def user_data_of(server: ServerSpec) -> bytes | None:
    """The user data as the guest gets it. Raises Invalid when it is not base64."""
    if not server.user_data:
        return None
    try:
        return base64.b64decode(server.user_data, validate=False)
    except (binascii.Error, ValueError) as error:
        raise Invalid("user_data is not base64") from error


def hostname_of(server: ServerSpec, domain: str) -> str:
    """The server's name in DNS: its host name, and the domain if there is one and the name has none itself."""
    if "." in server.hostname:
        return server.hostname
    return f"{server.hostname}.{domain.strip('.')}" if domain.strip(".") else server.hostname


def meta_data(description: Description, version: str = LATEST) -> dict[str, Any]:
    """`meta_data.json` of one version."""
    server = description.server
    document: dict[str, Any] = {"uuid": server.id}
    if server.metadata:
        document["meta"] = dict(server.metadata)
    if server.injected_files:
        document["files"] = [
            {"path": file.path, "content_path": _content_path(index)}
            for index, file in enumerate(server.injected_files)
        ]
    if server.key is not None:
        document["public_keys"] = {server.key.name: server.key.public_key}
        if _has(version, _NETWORK):
            document["keys"] = [{"name": server.key.name, "type": server.key.type, "data": server.key.public_key}]
    document["hostname"] = hostname_of(server, description.domain)
    document["name"] = server.name
    document["launch_index"] = 0
    document["availability_zone"] = server.availability_zone
    if _has(version, _SEED) and description.random_seed:
        document["random_seed"] = base64.b64encode(description.random_seed).decode()
    if _has(version, _NETWORK):
        document["project_id"] = server.project_id
    if _has(version, _DEVICES):
        document["devices"] = []
    return document


def network_data(description: Description) -> dict[str, Any]:
    """`network_data.json`. Source: Nova's doc/api_schemas/network_data.json."""
    links: list[dict[str, Any]] = []
    networks: list[dict[str, Any]] = []
    services: list[dict[str, Any]] = []
    seen: set[str] = set()
    for port in description.server.ports:
        network = description.networks.get(port.network_id)
        links.append(_link(port, network))
        subnets = {subnet.id: subnet for subnet in network.subnets} if network else {}
        for fixed in port.fixed_ips:
            networks.append(_network(len(networks), port, fixed, subnets.get(fixed.subnet_id)))
        for address in (dns for subnet in subnets.values() for dns in subnet.dns_nameservers):
            if address not in seen:
                services.append({"type": "dns", "address": address})
                seen.add(address)
    return {"links": links, "networks": networks, "services": services}


def files(description: Description) -> dict[str, bytes]:
    """All files of the tree `openstack/` by path: those of each version, of `latest`, and what users inject.

    Raises Invalid when the user data is not base64.
    """
    user_data = user_data_of(description.server)
    network = msgspec.json.encode(network_data(description))
    tree: dict[str, bytes] = {}
    for index, file in enumerate(description.server.injected_files):
        tree["openstack" + _content_path(index)] = base64.b64decode(file.contents)
    for version in (*VERSIONS, LATEST):
        folder = f"openstack/{version}/"
        tree[folder + "meta_data.json"] = msgspec.json.encode(meta_data(description, version))
        if user_data is not None:
            tree[folder + "user_data"] = user_data
        if _has(version, _VENDOR):
            tree[folder + "vendor_data.json"] = b"{}"
        if _has(version, _NETWORK):
            tree[folder + "network_data.json"] = network
        if _has(version, _VENDOR2):
            tree[folder + "vendor_data2.json"] = b"{}"
    return tree


def _content_path(index: int) -> str:
    """Where the content of an injected file is, below `openstack`."""
    return f"/content/{index:04d}"


def _has(version: str, since: str) -> bool:
    # ISO dates sort as text, and `latest` sorts behind them all.
    return version >= since


def _link(port: PortSpec, network: NetworkSpec | None) -> dict[str, Any]:
    return {
        "id": tap_name(port.id),
        "vif_id": port.id,
        "type": "bridge",
        "mtu": network.mtu if network else None,
        "ethernet_mac_address": port.mac_address,
    }


def _network(index: int, port: PortSpec, fixed: FixedIp, subnet: SubnetSpec | None) -> dict[str, Any]:
    described: dict[str, Any] = {
        "id": f"network{index}",
        "type": _type(fixed, subnet),
        "link": tap_name(port.id),
        "network_id": port.network_id,
    }
    if subnet is None or (subnet.dhcp_enabled and subnet.ip_version == 4):
        return described
    described["ip_address"] = fixed.ip_address
    described["netmask"] = str(ip_network(subnet.cidr).netmask)
    described["routes"] = _routes(subnet)
    described["services"] = [{"type": "dns", "address": address} for address in subnet.dns_nameservers]
    return described


def _type(fixed: FixedIp, subnet: SubnetSpec | None) -> str:
    version = subnet.ip_version if subnet else (6 if ":" in fixed.ip_address else 4)
    if version == 4:
        return "ipv4_dhcp" if subnet is None or subnet.dhcp_enabled else "ipv4"
    mode = subnet.ipv6_address_mode if subnet else "slaac"
    return f"ipv6_{mode}" if mode else "ipv6"


def _routes(subnet: SubnetSpec) -> list[dict[str, str]]:
    pairs = [(route.destination, route.nexthop) for route in subnet.host_routes]
    if subnet.gateway_ip:
        pairs.insert(0, ("0.0.0.0/0" if subnet.ip_version == 4 else "::/0", subnet.gateway_ip))
    return [_route(destination, gateway) for destination, gateway in pairs]


def _route(destination: str, gateway: str) -> dict[str, str]:
    network = ip_network(destination, strict=False)
    return {"network": str(network.network_address), "netmask": str(network.netmask), "gateway": gateway}
