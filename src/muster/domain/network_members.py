"""Which hosts a network's tunnels join, and where they end. Pure."""

from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address
from typing import NamedTuple


class Binding(NamedTuple):
    """A port of a network is bound to the host of this name ("": to none)."""

    network_id: str
    hostname: str


@lru_cache(maxsize=100_000)
def tunnel_address(host_ip: str) -> str | None:
    """The address at which a host's VXLAN tunnels end, if it can have any.

    None for an address that no other host reaches (loopback), and for all that is not IPv4: the overhead of VXLAN over
    IPv6 is 20 bytes more than what networks' MTUs leave room for.
    """
    try:
        address = IPv4Address(host_ip)
    except AddressValueError:
        return None
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        return None
    return str(address)
