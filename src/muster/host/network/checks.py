"""Checks of values before they reach nft's language, a configuration file or a file name.

Invariant: what these functions return consists of characters that have no meaning in any of those languages.
"""

import re
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from muster.base.errors import Invalid
from muster.base.ids import is_uuid
from muster.domain.specs import NetworkSpec

Interface = IPv4Interface | IPv6Interface

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NOT_LABEL = re.compile(r"[^a-z0-9-]+")
_MTU_MIN, _MTU_MAX = 68, 65_521  # what the kernel lets a bridge have
_MTU_MIN_6 = 1_280  # RFC 8200, section 5


def uuid_of(text: str) -> str:
    """A UUID in lower case with hyphens. Raises Invalid."""
    if not is_uuid(text):
        raise Invalid(f"{text!r} is not a UUID")
    digits = text.replace("-", "").lower()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def hex_of(text: str) -> str:
    """A UUID as 32 hexadecimal digits, for names inside nftables. Raises Invalid."""
    return uuid_of(text).replace("-", "")


def mac_of(text: str) -> str:
    """A unicast MAC address in lower case with colons. Raises Invalid."""
    mac = text.lower().replace("-", ":")
    if not _MAC.fullmatch(mac) or int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise Invalid(f"{text!r} is not a unicast MAC address")
    return mac


def interface_of(text: str) -> Interface:
    """An address, or an address with its prefix length, of either family. Raises Invalid."""
    try:
        parsed = ip_interface(text)
    except ValueError as error:
        raise Invalid(f"{text!r} is not an IP address or CIDR") from error
    if isinstance(parsed, IPv6Interface) and parsed.scope_id is not None:
        raise Invalid(f"{text!r} has a zone, which is not allowed")
    return parsed


def address_of(text: str) -> str:
    """An IP address in its canonical form. Raises Invalid."""
    if "/" in text:
        raise Invalid(f"{text!r} is not an IP address")
    return str(interface_of(text).ip)


def domain_of(text: str) -> str:
    """A DNS domain in lower case without its final dot; empty stays empty. Raises Invalid."""
    domain = text.rstrip(".").lower()
    if domain and not (len(domain) <= 253 and all(_LABEL.fullmatch(label) for label in domain.split("."))):
        raise Invalid(f"{text!r} is not a DNS domain")
    return domain


def label_of(hostname: str, fallback: str) -> str:
    """A hostname made into one DNS label (RFC 1123), or `fallback` when nothing of it is left."""
    return _NOT_LABEL.sub("-", hostname.lower().split(".")[0])[:63].strip("-") or fallback


def mtu_of(network: NetworkSpec, mtu_max: int) -> int:
    """A network's MTU on this host, which caps it at `mtu_max` (0: no cap). Raises Invalid."""
    mtu = min(network.mtu, mtu_max or network.mtu)
    if not _MTU_MIN <= network.mtu <= _MTU_MAX:
        raise Invalid(f"an MTU of {network.mtu} is not possible")
    if mtu < _MTU_MIN_6 and any(subnet.ip_version == 6 and subnet.dhcp_address for subnet in network.subnets):
        raise Invalid(f"an MTU of {mtu} is too small for IPv6, which needs {_MTU_MIN_6}")
    return mtu


def link_local_of(mac: str) -> str:
    """The IPv6 link-local address that a MAC gives (modified EUI-64, RFC 4291 appendix A)."""
    octets = [int(part, 16) for part in mac.split(":")]
    octets[0] ^= 2
    eui = [*octets[:3], 0xFF, 0xFE, *octets[3:]]
    groups = ":".join(f"{eui[i] << 8 | eui[i + 1]:x}" for i in range(0, 8, 2))
    return str(interface_of(f"fe80::{groups}").ip)
