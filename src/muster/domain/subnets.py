"""Subnets: their values, and the checks that Neutron makes of CIDRs, gateways, pools and IPv6 modes. Pure."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import pairwise

from msgspec import UNSET, Struct, UnsetType

from muster.domain.addresses import Range, default_pools, to_number, to_text
from muster.domain.network_errors import invalid_input, network_error
from muster.domain.specs import HostRoute

IpNetwork = IPv4Network | IPv6Network

MAX_NAMESERVERS = 5
MAX_HOST_ROUTES = 20
IPV6_MODES = ("dhcpv6-stateful", "dhcpv6-stateless", "slaac")
AUTO_MODES = ("dhcpv6-stateless", "slaac")
#: Below that, IPv6 must not be used at all (RFC 8200, section 5).
MIN_MTU_IPV6 = 1_280
SERVICE_TYPE_PREFIXES = ("network:", "compute:", "baremetal:")


class Pool(Struct, frozen=True):
    """An allocation pool as users write it: the addresses from `start` to `end`."""

    start: str
    end: str


class Subnet(Struct, frozen=True, kw_only=True):
    """A subnet as it is."""

    id: str
    project_id: str
    network_id: str
    name: str
    description: str
    ip_version: int
    cidr: str
    gateway_ip: str | None
    enable_dhcp: bool
    dns_nameservers: tuple[str, ...]
    host_routes: tuple[HostRoute, ...]
    allocation_pools: tuple[Pool, ...]
    service_types: tuple[str, ...]
    ipv6_address_mode: str | None
    ipv6_ra_mode: str | None
    dns_publish_fixed_ip: bool
    revision: int
    created_at: float
    updated_at: float
    tags: tuple[str, ...] = ()


class NewSubnet(Struct, frozen=True, kw_only=True):
    """A subnet to be made, already parsed. `gateway_ip` UNSET is the first address, None is no gateway;
    `allocation_pools` UNSET is every address that a guest may have."""

    id: str
    project_id: str
    network_id: str
    ip_version: int
    cidr: str
    name: str = ""
    description: str = ""
    gateway_ip: str | UnsetType | None = UNSET
    enable_dhcp: bool = True
    dns_nameservers: tuple[str, ...] = ()
    host_routes: tuple[HostRoute, ...] = ()
    allocation_pools: tuple[Pool, ...] | UnsetType = UNSET
    service_types: tuple[str, ...] = ()
    ipv6_address_mode: str | None = None
    ipv6_ra_mode: str | None = None
    dns_publish_fixed_ip: bool = False


class SubnetChanges(Struct, frozen=True, kw_only=True):
    """What an update sets."""

    name: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    gateway_ip: str | UnsetType | None = UNSET
    enable_dhcp: bool | UnsetType = UNSET
    dns_nameservers: tuple[str, ...] | UnsetType = UNSET
    host_routes: tuple[HostRoute, ...] | UnsetType = UNSET
    allocation_pools: tuple[Pool, ...] | UnsetType = UNSET
    service_types: tuple[str, ...] | UnsetType = UNSET
    dns_publish_fixed_ip: bool | UnsetType = UNSET


def check_mtu(network_id: str, mtu: int, subnets: Iterable[Subnet]) -> None:
    """Whether these subnets may be on a network with this MTU. Raises Conflict, as Neutron does."""
    if mtu < MIN_MTU_IPV6 and any(subnet.ip_version == 6 for subnet in subnets):
        raise network_error("NetworkMTUSubnetConflict", net_id=network_id, mtu=MIN_MTU_IPV6)


def completed(draft: NewSubnet, now: float) -> Subnet:
    """The subnet that a request makes, with gateway and pools filled in. Raises Invalid or Conflict as Neutron does."""
    network = _checked_cidr(draft)
    _check_ipv6_modes(draft, network)
    gateway = default_gateway(network) if isinstance(draft.gateway_ip, UnsetType) else draft.gateway_ip
    if isinstance(draft.allocation_pools, UnsetType):
        pools = tuple(to_pool(one, network.version) for one in default_pools(str(network), gateway))
    else:
        pools = draft.allocation_pools
    subnet = Subnet(
        id=draft.id,
        project_id=draft.project_id,
        network_id=draft.network_id,
        name=draft.name,
        description=draft.description,
        ip_version=draft.ip_version,
        cidr=str(network),
        gateway_ip=gateway,
        enable_dhcp=draft.enable_dhcp,
        dns_nameservers=draft.dns_nameservers,
        host_routes=draft.host_routes,
        allocation_pools=pools,
        service_types=draft.service_types,
        ipv6_address_mode=draft.ipv6_address_mode,
        ipv6_ra_mode=draft.ipv6_ra_mode,
        dns_publish_fixed_ip=draft.dns_publish_fixed_ip,
        revision=0,
        created_at=now,
        updated_at=now,
    )
    check(subnet)
    return subnet


def check(subnet: Subnet) -> None:
    """All that must hold of a subnet, new or changed. Raises Invalid or Conflict with Neutron's types."""
    network = ip_network(subnet.cidr)
    _check_gateway(subnet, network)
    check_pools(subnet.allocation_pools, network)
    _check_gateway_outside(subnet)
    _check_options(subnet)


def default_gateway(network: IpNetwork) -> str | None:
    """The first address behind the network's own; None where there is no such address."""
    if network.num_addresses == 1:
        return None
    return to_text(int(network.network_address) + 1, network.version)


def to_pool(one: Range, ip_version: int) -> Pool:
    """A range of numbers as users see it."""
    return Pool(to_text(one.first, ip_version), to_text(one.last, ip_version))


def ranges(pools: Sequence[Pool]) -> list[Range]:
    """Pools as ranges of numbers, in order."""
    return sorted(Range(to_number(pool.start), to_number(pool.end)) for pool in pools)


def chosen_from(subnet: Subnet) -> list[Range]:
    """The addresses that ports without a wish are given: the pools; none where guests make their own (SLAAC).

    An address that a guest has made is known while its port has it, and needs no rest: no other port can make it.
    """
    return [] if subnet.ipv6_address_mode in AUTO_MODES else ranges(subnet.allocation_pools)


def check_pools(pools: Sequence[Pool], network: IpNetwork) -> None:
    """Each pool is a range inside the subnet's host addresses, and no two overlap."""
    [whole] = default_pools(str(network), None)
    for pool in pools:
        start, end = ip_address(pool.start), ip_address(pool.end)
        if start.version != network.version or end.version != network.version or int(start) > int(end):
            raise network_error("InvalidAllocationPool", pool=f"{pool.start}-{pool.end}")
        if int(start) < whole.first or int(end) > whole.last:
            raise network_error("OutOfBoundsAllocationPool", pool=f"{pool.start}-{pool.end}", subnet_cidr=str(network))
    ordered = sorted(pools, key=lambda pool: to_number(pool.start))
    for one, other in pairwise(ordered):
        if to_number(other.start) <= to_number(one.end):
            raise network_error(
                "OverlappingAllocationPools",
                pool_1=f"{one.start}-{one.end}",
                pool_2=f"{other.start}-{other.end}",
                subnet_cidr=str(network),
            )


def check_overlap(cidr: str, network_id: str, others: Sequence[str]) -> None:
    """No other subnet of the network has any of these addresses. Raises Invalid."""
    mine = ip_network(cidr)
    for other in map(ip_network, others):
        if mine.version == other.version and mine.overlaps(other):
            raise invalid_input(
                f"Requested subnet with cidr: {cidr} for network: {network_id} overlaps with another subnet"
            )


def _checked_cidr(draft: NewSubnet) -> IpNetwork:
    network = ip_network(draft.cidr, strict=False)
    if network.version != draft.ip_version:
        raise invalid_input(f"cidr '{draft.cidr}' does not match the ip_version '{draft.ip_version}'")
    reason = _unusable(network, enable_dhcp=draft.enable_dhcp)
    if reason:
        raise invalid_input(f"Invalid CIDR {draft.cidr} for subnet: {reason}" if "prefix" not in reason else reason)
    return network


def _unusable(network: IpNetwork, *, enable_dhcp: bool) -> str | None:
    if network.prefixlen == 0:
        return "Cannot use /0 as subnet prefix length"
    if network.network_address.is_loopback:
        return "loopback addresses are not allowed"
    if network.is_multicast:
        return "multicast addresses are not allowed"
    if enable_dhcp and network.prefixlen > network.max_prefixlen - 2:
        return "Subnet has a prefix length that is incompatible with DHCP service enabled"
    return None


def _check_ipv6_modes(draft: NewSubnet, network: IpNetwork) -> None:
    modes = {draft.ipv6_ra_mode, draft.ipv6_address_mode} - {None}
    if not modes:
        return
    if draft.ip_version == 4:
        name = "ipv6_ra_mode" if draft.ipv6_ra_mode else "ipv6_address_mode"
        raise invalid_input(f"{name} is not valid when ip_version is 4")
    if not draft.enable_dhcp:
        raise invalid_input("ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False")
    if len(modes) == 2:
        raise invalid_input(
            f"ipv6_ra_mode set to '{draft.ipv6_ra_mode}' with ipv6_address_mode set to '{draft.ipv6_address_mode}' "
            "is not valid. If both attributes are set, they must be the same value"
        )
    if draft.ipv6_address_mode in AUTO_MODES and network.prefixlen != 64:
        raise invalid_input(
            f"Invalid CIDR {draft.cidr} for IPv6 address mode. OpenStack uses the EUI-64 address format, "
            "which requires the prefix to be /64"
        )
    if draft.ipv6_address_mode in AUTO_MODES and not isinstance(draft.allocation_pools, UnsetType):
        raise invalid_input("Allocation pools allowed only when ipv6_address_mode is dhcpv6-stateful or not set")


def _check_gateway(subnet: Subnet, network: IpNetwork) -> None:
    if subnet.gateway_ip is None:
        return
    gateway = ip_address(subnet.gateway_ip)
    if gateway.version != subnet.ip_version:
        raise invalid_input(f"gateway_ip '{subnet.gateway_ip}' does not match the ip_version '{subnet.ip_version}'")
    if isinstance(gateway, IPv6Address) and gateway.is_link_local:
        return
    ends = {int(network.network_address), int(network.broadcast_address)} if network.version == 4 else set()
    if network.num_addresses > 2 and int(gateway) in ends:
        raise invalid_input("Gateway is not valid on subnet")
    if gateway.is_unspecified or gateway.is_multicast or gateway.is_loopback:
        raise invalid_input("Gateway is not valid on subnet")


def _check_gateway_outside(subnet: Subnet) -> None:
    if subnet.gateway_ip is None:
        return
    gateway = to_number(subnet.gateway_ip)
    for pool in subnet.allocation_pools:
        if to_number(pool.start) <= gateway <= to_number(pool.end):
            raise network_error(
                "GatewayConflictWithAllocationPools", ip_address=subnet.gateway_ip, pool=f"{pool.start}-{pool.end}"
            )


def _check_options(subnet: Subnet) -> None:
    if len(subnet.dns_nameservers) > MAX_NAMESERVERS:
        raise network_error("DNSNameServersExhausted", subnet_id=subnet.id, quota=MAX_NAMESERVERS)
    if len(subnet.host_routes) > MAX_HOST_ROUTES:
        raise network_error("HostRoutesExhausted", subnet_id=subnet.id, quota=MAX_HOST_ROUTES)
    for server in subnet.dns_nameservers:
        if ip_address(server).version != subnet.ip_version:
            raise invalid_input(f"dns_nameserver '{server}' does not match the ip_version '{subnet.ip_version}'")
    for route in subnet.host_routes:
        versions = {ip_network(route.destination).version, ip_address(route.nexthop).version}
        if versions != {subnet.ip_version}:
            raise invalid_input(f"host_route '{route.destination}' does not match the ip_version '{subnet.ip_version}'")
    for kind in subnet.service_types:
        if not kind.startswith(SERVICE_TYPE_PREFIXES):
            raise network_error("InvalidSubnetServiceType", service_type=kind)
    if not subnet.enable_dhcp and (subnet.ipv6_address_mode or subnet.ipv6_ra_mode):
        raise invalid_input("ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False")
    if subnet.enable_dhcp and ip_network(subnet.cidr).prefixlen > (30 if subnet.ip_version == 4 else 126):
        raise invalid_input("Subnet has a prefix length that is incompatible with DHCP service enabled")
