"""What a port's user wants its guest told by DHCP beyond the subnet's own, as lines of dnsmasq's configuration. Pure.

Invariant: dnsmasq takes every line. One that it refused would keep it from starting, and the whole network from DHCP,
so an option whose name is not known, or whose value does not fit its kind, is left out.
Names, numbers and kinds are those of `dnsmasq --help dhcp` and `--help dhcp6`, which Neutron's users know (RFC 2132,
3397, 3442, 5859, 5970); not what server and client agree on by themselves, such as the netmask and a client's identity.
"""

import re
from collections.abc import Callable
from enum import Enum

from muster.base.errors import Invalid
from muster.domain.specs import DhcpOption, PortSpec
from muster.host.network.checks import address_of, domain_of, interface_of, mac_of, uuid_of

_SERVER = "server-ip-address"  # not an option but a field of the packet: where the next file comes from
#: What vendors and sites use as they like (RFC 3942). Other numbers have a kind, or are the protocol's own.
_FREE = range(128, 255)
#: Empty, they take away what the subnet says. Neutron lets no others be empty.
_MAY_BE_EMPTY = {3, 121}
_MOST_BYTES = 255  # of an option's value (RFC 2132)
_TEXT = re.compile(r"[ !#-\[\]-~]+")  # printable ASCII without quote and backslash
_HEX = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2})+")


class _Kind(Enum):
    ADDRESSES = "addresses"
    ROUTES = "routes"
    NAMES = "names"
    TEXT = "text"
    BYTE = 1
    SHORT = 2
    LONG = 4
    ANY = "any"


_A, _N, _T = _Kind.ADDRESSES, _Kind.NAMES, _Kind.TEXT
_OPTIONS4: dict[str, tuple[int, _Kind]] = {
    "time-offset": (2, _Kind.LONG),
    "router": (3, _A),
    "dns-server": (6, _A),
    "log-server": (7, _A),
    "lpr-server": (9, _A),
    "boot-file-size": (13, _Kind.SHORT),
    "domain-name": (15, _T),
    "swap-server": (16, _A),
    "root-path": (17, _T),
    "extension-path": (18, _T),
    "ip-forward-enable": (19, _Kind.BYTE),
    "non-local-source-routing": (20, _Kind.BYTE),
    "policy-filter": (21, _A),
    "max-datagram-reassembly": (22, _Kind.SHORT),
    "default-ttl": (23, _Kind.BYTE),
    "mtu": (26, _Kind.SHORT),
    "all-subnets-local": (27, _Kind.BYTE),
    "router-discovery": (31, _Kind.BYTE),
    "router-solicitation": (32, _A),
    "static-route": (33, _A),
    "trailer-encapsulation": (34, _Kind.BYTE),
    "arp-timeout": (35, _Kind.LONG),
    "ethernet-encap": (36, _Kind.BYTE),
    "tcp-ttl": (37, _Kind.BYTE),
    "tcp-keepalive": (38, _Kind.LONG),
    "nis-domain": (40, _T),
    "nis-server": (41, _A),
    "ntp-server": (42, _A),
    "netbios-ns": (44, _A),
    "netbios-dd": (45, _A),
    "netbios-nodetype": (46, _Kind.BYTE),
    "netbios-scope": (47, _T),
    "x-windows-fs": (48, _A),
    "x-windows-dm": (49, _A),
    "T1": (58, _Kind.LONG),
    "T2": (59, _Kind.LONG),
    "vendor-class": (60, _T),
    "nis+-domain": (64, _T),
    "nis+-server": (65, _A),
    "tftp-server": (66, _T),
    "bootfile-name": (67, _T),
    "mobile-ip-home": (68, _A),
    "smtp-server": (69, _A),
    "pop3-server": (70, _A),
    "nntp-server": (71, _A),
    "irc-server": (74, _A),
    "user-class": (77, _T),
    "posix-timezone": (100, _T),
    "tzdb-timezone": (101, _T),
    "ipv6-only": (108, _Kind.LONG),
    "domain-search": (119, _N),
    "sip-server": (120, _A),
    "classless-static-route": (121, _Kind.ROUTES),
    "tftp-server-address": (150, _A),
    "249": (249, _Kind.ROUTES),  # Microsoft's number for the same
}
_OPTIONS6: dict[str, tuple[int, _Kind]] = {
    "sip-server-domain": (21, _N),
    "sip-server": (22, _A),
    "dns-server": (23, _A),
    "domain-search": (24, _N),
    "nis-server": (27, _A),
    "nis+-server": (28, _A),
    "nis-domain": (29, _N),
    "nis+-domain": (30, _N),
    "sntp-server": (31, _A),
    "information-refresh-time": (32, _Kind.LONG),
    "posix-timezone": (41, _T),
    "tzdb-timezone": (42, _T),
    "bootfile-url": (59, _T),
}
_BY_NUMBER = {4: dict(_OPTIONS4.values()), 6: dict(_OPTIONS6.values())}


def option_lines(port: PortSpec) -> tuple[str, ...]:
    """The lines of a port, none if it has no options that can be given. Raises Invalid for a port without a MAC or id.

    Its packets are told by their MAC (`dhcp-mac`), not by its host entry, which cannot have tags (`dnsmasq_config`).
    """
    if not port.dhcp_options:
        return ()
    tag = uuid_of(port.id)
    lines = [line for option in port.dhcp_options if (line := _line(option, tag)) is not None]
    return (f"dhcp-mac=set:{tag},{mac_of(port.mac_address)}", *lines) if lines else ()


def left_out(port: PortSpec) -> list[str]:
    """The names of a port's options that its guest cannot be given."""
    return [option.name for option in port.dhcp_options if _line(option, "") is None]


def _line(option: DhcpOption, tag: str) -> str | None:
    prefix = f"dhcp-option=tag:{tag},"
    try:
        if option.name == _SERVER and option.ip_version == 4:
            return f"{prefix}option:{_SERVER},{_addresses(option.value, 4)}"
        number, kind = _number_and_kind(option)
        if not option.value.strip():
            return f"{prefix}{number}" if option.ip_version == 4 and number in _MAY_BE_EMPTY else None
        where = "option6:" if option.ip_version == 6 else ""
        return f"{prefix}{where}{number},{_value(kind, option.value, option.ip_version)}"
    except Invalid:
        return None


def _number_and_kind(option: DhcpOption) -> tuple[int, _Kind]:
    known = (_OPTIONS4 if option.ip_version == 4 else _OPTIONS6).get(option.name)
    if known is not None:
        return known
    if not (option.name.isascii() and option.name.isdigit() and len(option.name) <= 3):
        raise Invalid(f"{option.name!r} is no known DHCP option")
    number = int(option.name)
    kind = _BY_NUMBER[option.ip_version].get(number)
    if kind is None and (option.ip_version == 6 or number not in _FREE):
        raise Invalid(f"the DHCP option {number} cannot be given")
    return number, kind or _Kind.ANY


def _value(kind: _Kind, text: str, version: int) -> str:
    if kind is _Kind.ADDRESSES:
        return _addresses(text, version)
    if kind is _Kind.ROUTES:
        return _routes(text)
    if kind is _Kind.NAMES:
        return ",".join(_each(text, domain_of))
    if kind is _Kind.TEXT:
        return _quoted(text)
    if kind is _Kind.ANY:
        return _anything(text)
    return _number(text, kind.value)


def _anything(text: str) -> str:
    """Of a site's own option: bytes in hexadecimal, addresses, a number, or text, such as a path or a URL.

    What dnsmasq makes of it depends on its characters, quotes or not; a letter, or a slash in front, makes it text.
    """
    if _HEX.fullmatch(text) and len(text) <= 3 * _MOST_BYTES:
        return text
    if text.isascii() and text.isdigit():
        return _number(text, _Kind.LONG.value)
    if text[:1].isdigit():
        return _addresses(text, 4)
    if text[:1].isalpha() or text.startswith("/"):
        return _quoted(text)
    raise Invalid(f"{text!r} is neither bytes, addresses, a number nor text")


def _addresses(text: str, version: int) -> str:
    found = _each(text, address_of)
    if any((":" in address) is not (version == 6) for address in found):
        raise Invalid(f"{text!r} has addresses of the other IP version")
    return ",".join(f"[{address}]" if version == 6 else address for address in found)


def _routes(text: str) -> str:
    """`prefix,router` as often as wanted."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) % 2 or not all(parts):
        raise Invalid(f"{text!r} is not pairs of a prefix and its router")
    prefixes = [str(interface_of(prefix).network) for prefix in parts[::2]]
    routers = [address_of(router) for router in parts[1::2]]
    if any(":" in part for part in (*prefixes, *routers)):
        raise Invalid(f"{text!r} is not IPv4")
    return ",".join(f"{prefix},{router}" for prefix, router in zip(prefixes, routers, strict=True))


def _each(text: str, check: Callable[[str], str]) -> list[str]:
    found = [check(part.strip()) for part in text.split(",")]
    if not all(found) or len(",".join(found)) > _MOST_BYTES:
        raise Invalid(f"{text!r} has an empty part, or too many")
    return found


def _quoted(text: str) -> str:
    if not _TEXT.fullmatch(text) or len(text) > _MOST_BYTES:
        raise Invalid("a text of an option is printable ASCII, without quotes and backslashes")
    return f'"{text}"'


def _number(text: str, n_bytes: int) -> str:
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < 1 << (8 * n_bytes)):
        raise Invalid(f"{text!r} is not a number of {n_bytes} bytes")
    return str(int(text))
