"""A network's dnsmasq as text: its configuration, and the host entries of ports. Pure functions.

Invariants: only values that passed `checks` are written; only MACs with an entry are answered; one interface is
served, so that renewals by unicast reach the server of their own network (several servers share a namespace).
Source: dnsmasq(8) 2.90; options by RFC 2132, classless static routes RFC 3442, link MTU option 26.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Network, ip_address
from pathlib import Path

from msgspec import Struct

from muster.base.errors import Invalid
from muster.domain.specs import DHCPV6_STATEFUL, NetworkSpec, SubnetSpec
from muster.host.names import bridge_name
from muster.host.network.checks import address_of, domain_of, interface_of, label_of, mac_of, mtu_of, uuid_of
from muster.host.network.ruleset import METADATA_IP
from muster.host.network.settings import NetworkSettings
from muster.host.ports import PlumbedPort

_RA_MODES = {"slaac": "ra-only", "dhcpv6-stateless": "ra-stateless", DHCPV6_STATEFUL: "static"}
_NOT_PATH = re.compile(r'["\x00-\x1f]|\s#')
_LEASE_MAX = 1_000_000  # dnsmasq's own default of 1,000 would refuse the next guest


class ServerFiles(Struct, frozen=True):
    """Where one server's files are."""

    folder: Path

    @property
    def config(self) -> Path:
        """The configuration; its path is also how a running server is recognised."""
        return self.folder / "conf"

    @property
    def hosts(self) -> Path:
        """The folder of host entries, which dnsmasq watches."""
        return self.folder / "hosts"

    @property
    def pid(self) -> Path:
        """The server's process id."""
        return self.folder / "pid"

    @property
    def log(self) -> Path:
        """The FIFO that the server logs to."""
        return self.folder / "log"


def serves(network: NetworkSpec) -> list[SubnetSpec]:
    """The subnets that a network's DHCP server is for; empty when it needs none."""
    return [subnet for subnet in network.subnets if subnet.dhcp_address and (subnet.dhcp_enabled or _ra_mode(subnet))]


def served_subnets(network: NetworkSpec) -> dict[str, int]:
    """Subnets whose addresses the network's server gives out, with their IP version."""
    return {subnet.id: subnet.ip_version for subnet in serves(network) if subnet.gives_leases}


def config_text(
    network: NetworkSpec, files: ServerFiles, settings: NetworkSettings, options: Iterable[Sequence[str]] = ()
) -> str:
    """The configuration of a network's server; `options` are lines of ports (`dhcp_options`). Raises Invalid."""
    bridge = bridge_name(uuid_of(network.id))
    mtu = mtu_of(network, settings.mtu_max)
    lines = [
        "no-hosts",
        "no-resolv",
        "no-ping",
        "port=0",
        "bind-dynamic",
        f"interface={bridge}",
        "except-interface=lo",
        "dhcp-authoritative",
        "dhcp-ignore=tag:!known",
        "leasefile-ro",
        f"dhcp-lease-max={_LEASE_MAX}",
        f"dhcp-hostsdir={_path(files.hosts)}",
        f"user={_user(settings.dnsmasq_user)}",
        f"pid-file={_path(files.pid)}",
        f"log-facility={_path(files.log)}",
        "log-async=100",
    ]
    if domain := domain_of(network.dns_domain):
        lines.append(f"domain={domain}")
    lines.append(f"dhcp-option-force=option:mtu,{mtu:d}")
    subnets = serves(network)
    if any(subnet.ip_version == 6 for subnet in subnets):
        # Router lifetime 0: the bridge tells prefixes, it is nobody's default router.
        lines += ["enable-ra", f"ra-param={bridge},mtu:{mtu:d},600,0"]
    for number, subnet in enumerate(subnets):
        lines += _subnet_lines(subnet, f"s{number}", settings.lease_time_s)
    for of_port in options:
        lines += of_port
    return "".join(f"{line}\n" for line in lines)


def host_lines(port: PlumbedPort, network: NetworkSpec) -> tuple[str, ...]:
    """Host entries of a port, one per address that DHCP serves. Raises Invalid.

    No tags: dnsmasq 2.90 links an entry's tags to its stack when a packet comes, and aborts at the next SIGHUP, when it
    frees them.
    """
    subnets = served_subnets(network)
    mac = mac_of(port.port.mac_address)
    lines = []
    for fixed in port.port.fixed_ips:
        if fixed.subnet_id not in subnets:
            continue
        address = address_of(fixed.ip_address)
        name = label_of(port.hostname, "host-" + address.replace(".", "-").replace(":", "-").strip("-"))
        shown = f"[{address}]" if ip_address(address).version == 6 else address
        lines.append(f"{mac},{shown},{name}")
    return tuple(lines)


def hosts_text(entries: Mapping[str, Sequence[str]]) -> str:
    """A file of host entries: each port's id as a comment, then its entries."""
    return "".join(f"# {port}\n" + "".join(f"{line}\n" for line in lines) for port, lines in entries.items() if lines)


def parse_hosts(text: str) -> dict[str, tuple[str, ...]]:
    """The inverse of `hosts_text`. Raises Invalid for what it did not write."""
    entries: dict[str, tuple[str, ...]] = {}
    port = None
    for line in text.splitlines():
        if line.startswith("# "):
            port = uuid_of(line[2:])
        elif port is None or line.count(",") != 2:
            raise Invalid(f"{line!r} is not a host entry")
        else:
            entries[port] = (*entries.get(port, ()), line)
    return entries


def mac_and_address_of_line(line: str) -> tuple[str, str]:
    """MAC and address of a host entry."""
    mac, address, _ = line.split(",")
    return mac, address.strip("[]")


def _subnet_lines(subnet: SubnetSpec, tag: str, lease_time_s: int) -> list[str]:
    network = interface_of(subnet.cidr).network
    dhcp_address = address_of(subnet.dhcp_address or "")
    if ip_address(dhcp_address) not in network or network.version != subnet.ip_version:
        raise Invalid(f"the DHCP address {dhcp_address} does not lie in {network}")
    servers = [address_of(server) for server in subnet.dns_nameservers]
    if isinstance(network, IPv4Network):
        first = f"dhcp-range=set:{tag},{network.network_address},static,{network.netmask},{lease_time_s:d}"
        return [first, *_options4(subnet, tag, dhcp_address, servers)]
    mode = _RA_MODES.get(_ra_mode(subnet) or "", "static")
    lines = [f"dhcp-range=set:{tag},{network.network_address},{mode},{network.prefixlen},{lease_time_s:d}"]
    if servers:
        lines.append(f"dhcp-option=tag:{tag},option6:dns-server,{','.join(f'[{server}]' for server in servers)}")
    return lines


def _options4(subnet: SubnetSpec, tag: str, dhcp_address: str, servers: Sequence[str]) -> list[str]:
    """Router, name servers and routes. An empty option keeps dnsmasq from offering itself."""
    gateway = address_of(subnet.gateway_ip) if subnet.gateway_ip else None
    routes = [f"{METADATA_IP}/32,{dhcp_address}"]
    routes += [f"{interface_of(route.destination).network},{address_of(route.nexthop)}" for route in subnet.host_routes]
    if gateway:
        routes.append(f"0.0.0.0/0,{gateway}")  # who reads option 121 must ignore option 3 (RFC 3442)
    listed = ",".join(routes)
    return [
        f"dhcp-option=tag:{tag},option:router{',' + gateway if gateway else ''}",
        f"dhcp-option=tag:{tag},option:dns-server{''.join(',' + server for server in servers)}",
        f"dhcp-option=tag:{tag},option:classless-static-route,{listed}",
        f"dhcp-option=tag:{tag},249,{listed}",  # Microsoft's number for the same
    ]


def _ra_mode(subnet: SubnetSpec) -> str | None:
    if subnet.ip_version != 6:
        return None
    mode = subnet.ipv6_ra_mode or subnet.ipv6_address_mode
    if mode is not None and mode not in _RA_MODES:
        raise Invalid(f"{mode!r} is not an IPv6 mode")
    return mode


def _user(name: str) -> str:
    if not (name and name.isascii() and name.replace("-", "").replace("_", "").isalnum()):
        raise Invalid(f"{name!r} is not a user name")
    return name


def _path(path: Path) -> str:
    """A file's name as it can stand in a configuration, which takes a quote for a quote and ` #` for a comment."""
    text = str(path)
    if _NOT_PATH.search(text):
        raise Invalid(f"{text!r} cannot stand in dnsmasq's configuration; choose another data directory")
    return text
