"""What deciding a batch of ports needs to know, and the pure part of the decision: which addresses a port wants."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network
from random import Random

from msgspec import Struct

from muster.base.errors import Invalid, MusterError, NotFound
from muster.domain import addresses as arithmetic
from muster.domain.ports import NewPort, WantedIp

AUTO_ADDRESS_MODES = frozenset({"slaac", "dhcpv6-stateless"})


class SubnetPicture(Struct, frozen=True, kw_only=True):
    """A subnet as a batch must know it."""

    id: str
    network_id: str
    ip_version: int
    cidr: str
    gateway_ip: str | None
    enable_dhcp: bool
    ipv6_address_mode: str | None

    @property
    def gives_itself(self) -> bool:
        """Whether guests make their own address here (SLAAC) instead of being given one."""
        return self.ipv6_address_mode in AUTO_ADDRESS_MODES


class NetworkPicture(Struct, frozen=True, kw_only=True):
    """A network as a batch must know it, with its subnets in the order in which they are tried (oldest first)."""

    id: str
    project_id: str
    shared: bool
    port_security_enabled: bool
    subnets: tuple[SubnetPicture, ...] = ()


class Want(Struct, frozen=True):
    """One address that a port wants: `number` in the only candidate, or any of the first candidate that has one."""

    candidates: tuple[str, ...]
    number: int | None = None


def wants_of(draft: NewPort, network: NetworkPicture, mac_address: str) -> tuple[Want, ...]:
    """The addresses that a port wants. Raises Invalid or NotFound with Neutron's error types as codes."""
    if draft.fixed_ips is None:
        return _automatic(network, mac_address)
    return tuple(_named(wanted, draft, network, mac_address) for wanted in draft.fixed_ips)


def _automatic(network: NetworkPicture, mac_address: str) -> tuple[Want, ...]:
    """One IPv4 address, one IPv6 address that is given out, and one in every subnet with SLAAC."""
    wants: list[Want] = []
    for ip_version in (4, 6):
        given = [s for s in network.subnets if s.ip_version == ip_version and not s.gives_itself]
        if given:
            wants.append(Want(tuple(subnet.id for subnet in given)))
    for subnet in network.subnets:
        if subnet.gives_itself:
            wants.append(Want((subnet.id,), arithmetic.eui64(subnet.cidr, mac_address)))
    return tuple(wants)


def _named(wanted: WantedIp, draft: NewPort, network: NetworkPicture, mac_address: str) -> Want:
    subnet = _subnet_of(wanted, draft, network)
    if wanted.ip_address is None:
        if subnet.gives_itself:
            return Want((subnet.id,), arithmetic.eui64(subnet.cidr, mac_address))
        return Want((subnet.id,))
    number = arithmetic.to_number(wanted.ip_address)
    if subnet.gives_itself and number != arithmetic.eui64(subnet.cidr, mac_address):
        raise Invalid(
            f"IPv6 address {wanted.ip_address} can not be directly assigned to a port on subnet {subnet.id} "
            "as the subnet is configured for automatic addresses",
            code="network.AllocationOnAutoAddressSubnet",
        )
    if number == _forbidden(subnet, number):
        raise Invalid(
            f"IP address {wanted.ip_address} is not a valid IP for the specified subnet.",
            code="network.InvalidIpForSubnet",
        )
    return Want((subnet.id,), number)


def _forbidden(subnet: SubnetPicture, number: int) -> int | None:
    """`number` if no port may ever have it here: the network's own or the broadcast address."""
    network = ip_network(subnet.cidr)
    ends: tuple[int, ...]
    if network.version == 4 and network.prefixlen < 31:
        ends = (int(network.network_address), int(network.broadcast_address))
    else:
        ends = (int(network.network_address),) if network.prefixlen < 127 else ()
    return number if number in ends else None


def _subnet_of(wanted: WantedIp, draft: NewPort, network: NetworkPicture) -> SubnetPicture:
    if wanted.subnet_id is not None:
        for subnet in network.subnets:
            if subnet.id == wanted.subnet_id:
                if wanted.ip_address is not None and not _inside(wanted.ip_address, subnet):
                    raise Invalid(
                        f"IP address {wanted.ip_address} is not a valid IP for the specified subnet.",
                        code="network.InvalidIpForSubnet",
                    )
                return subnet
        raise Invalid(
            f"Invalid input for operation: Failed to create port on network {draft.network_id}, because fixed_ips "
            f"included invalid subnet {wanted.subnet_id}.",
            code="network.InvalidInput",
        )
    if wanted.ip_address is None:
        given = next((subnet for subnet in network.subnets if not subnet.gives_itself), None)
        if given is not None:
            return given
    else:
        for subnet in network.subnets:
            if _inside(wanted.ip_address, subnet):
                return subnet
    raise Invalid(
        f"IP address {wanted.ip_address} is not a valid IP for any of the subnets on the specified network.",
        code="network.InvalidIpForNetwork",
    )


def _inside(address: str, subnet: SubnetPicture) -> bool:
    return ip_address(address) in ip_network(subnet.cidr)


def draw_macs(count: int, prefix: bytes, taken: set[str], rng: Random) -> list[str]:
    """`count` different MAC addresses that start with `prefix` (2 octets) and are not in `taken`.

    32 random bits: in a network with 100,000 ports a batch of 2,000 meets a used one about every twentieth time; the
    store's unique key then has the batch decided again.
    """
    drawn: list[str] = []
    seen = set(taken)
    while len(drawn) < count:
        octets = prefix + rng.getrandbits(32).to_bytes(4, "big")
        mac_address = ":".join(f"{octet:02x}" for octet in octets)
        if mac_address not in seen:
            seen.add(mac_address)
            drawn.append(mac_address)
    return drawn


def check_visible(draft: NewPort, networks: Mapping[str, NetworkPicture]) -> MusterError | None:
    """NotFound if the network is not there or not the project's to use."""
    network = networks.get(draft.network_id)
    if network is None:
        return NotFound(f"Network {draft.network_id} could not be found.", code="network.NetworkNotFound")
    return None


def duplicate_addresses(draft: NewPort) -> MusterError | None:
    """Invalid if the request names one address twice."""
    named: Sequence[str] = [wanted.ip_address for wanted in draft.fixed_ips or () if wanted.ip_address]
    if len(set(named)) != len(named):
        return Invalid("Duplicate IP address in fixed_ips.", code="network.InvalidInput")
    return None
