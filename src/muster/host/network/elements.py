"""What one port adds to the nftables sets and maps of `ruleset`: pure functions from specs to element texts.

Invariant: an element names its own tap first, so that all of a port's elements can be found and removed by its tap.
"""

import hashlib
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Interface, IPv6Address, ip_address
from typing import Any

from msgspec import Struct

from muster.domain.specs import PortSpec
from muster.host.names import tap_name
from muster.host.network.checks import Interface, hex_of, interface_of, link_local_of, mac_of, uuid_of

# Sets and maps of the bridge table whose elements belong to ports.
PORT_SETS = (
    *("secured", "macs", "src4", "src6", "nd", "chaddr", "dhcp4", "dhcp6", "pairs", "egress", "ingress", "port_zones"),
)

Elements = Mapping[str, frozenset[str]]


class PortRules(Struct, frozen=True):
    """A port as the firewall has it: elements per set, its groups' profile, and the rules of its own pair chain."""

    tap: str
    elements: Elements
    profile: str | None
    group_ids: tuple[str, ...]
    pair_chain: str | None
    pair_rules: tuple[str, ...]


def profile_of(group_ids: Iterable[str]) -> str:
    """The name shared by all ports with the same groups; their rules are chained once, not once per port."""
    return hashlib.sha256(" ".join(sorted(group_ids)).encode()).hexdigest()[:16]


def quoted(tap: str) -> str:
    """An interface name as nft reads it."""
    return f'"{tap}"'


def port_rules(port: PortSpec, zone: int | None, dhcp_macs: Mapping[int, str] | None = None) -> PortRules:
    """All that stands in nftables for one port. Raises Invalid.

    `zone` only where zones are kept per port; `dhcp_macs`: by IP version, the MAC of the DHCP server that serves it.
    """
    tap = tap_name(uuid_of(port.id))
    elements: dict[str, set[str]] = {}
    if zone is not None:
        elements["port_zones"] = {f"{quoted(tap)} : {zone:d}"}
    if not port.port_security_enabled:
        return PortRules(tap, _frozen(elements), None, (), None, ())
    groups = tuple(sorted({uuid_of(group_id) for group_id in port.security_group_ids}))
    profile = profile_of(groups)
    elements |= {
        "secured": {quoted(tap)},
        "egress": {f"{quoted(tap)} : goto e_{profile}"},
        "ingress": {f"{quoted(tap)} : goto i_{profile}"},
    }
    senders = _senders(port)
    for mac, interface in senders:
        _allow(elements, tap, mac, interface)
    for version, server in (dhcp_macs or {}).items():
        elements[f"dhcp{version:d}"] = {f"{quoted(tap)} : {mac_of(server)}"}
    ranges = [(mac, interface) for mac, interface in senders if not _is_host(interface)]
    chain = f"pr_{hex_of(port.id)}" if ranges else None
    if chain:
        elements["pairs"] = {f"{quoted(tap)} : goto {chain}"}
    return PortRules(tap, _frozen(elements), profile, groups, chain, tuple(_range_rules(ranges)))


def guard_elements(port: PortSpec, zone: int | None) -> Elements:
    """What stands for a tap whose rules are not known yet: it is secured and may do nothing."""
    tap = tap_name(uuid_of(port.id))
    elements = {"secured": {quoted(tap)}}
    if zone is not None:
        elements["port_zones"] = {f"{quoted(tap)} : {zone:d}"}
    return _frozen(elements)


def element_of(set_name: str, value: Any) -> str:
    """The text of an element as nft's JSON lists it, in the form of `port_rules`; the inverse of adding it."""
    if set_name == "nd":
        tap, mac, number = value["concat"]
        return f"{quoted(tap)} . {mac} . {_number(number):#034x}"
    if set_name == "chaddr":
        tap, number = value["concat"]
        return f"{quoted(tap)} . {_number(number):#014x}"
    if set_name in ("macs", "src4", "src6"):
        tap, *rest = value["concat"]
        return " . ".join((quoted(tap), *(_canonical(part) for part in rest)))
    if set_name in ("egress", "ingress", "pairs"):
        tap, verdict = value
        return f"{quoted(tap)} : goto {verdict['goto']['target']}"
    if set_name in ("dhcp4", "dhcp6"):
        return f"{quoted(value[0])} : {value[1]}"
    if set_name in ("zones", "port_zones"):
        return f"{quoted(value[0])} : {int(value[1]):d}"
    if set_name == "bridged":
        return " . ".join(quoted(name) for name in value["concat"])
    return quoted(value)


def tap_of(element: str) -> str:
    """The interface that an element belongs to."""
    return element.split('"')[1]


def _frozen(elements: Mapping[str, set[str]]) -> Elements:
    return {name: frozenset(values) for name, values in elements.items() if values}


def _senders(port: PortSpec) -> list[tuple[str, Interface]]:
    mac = mac_of(port.mac_address)
    own = [(mac, interface_of(fixed.ip_address)) for fixed in port.fixed_ips]
    pairs = [(mac_of(pair.mac_address or mac), interface_of(pair.ip_address)) for pair in port.allowed_address_pairs]
    return [(mac, interface_of(link_local_of(mac))), *own, *pairs]


def _is_host(interface: Interface) -> bool:
    return interface.network.prefixlen == interface.network.max_prefixlen


def _allow(elements: dict[str, set[str]], tap: str, mac: str, interface: Interface) -> None:
    name = quoted(tap)
    elements.setdefault("macs", set()).add(f"{name} . {mac}")
    elements.setdefault("chaddr", set()).add(f"{name} . 0x{mac.replace(':', '')}")
    if not _is_host(interface):
        return
    if isinstance(interface, IPv4Interface):
        elements.setdefault("src4", set()).add(f"{name} . {mac} . {interface.ip}")
        return
    elements.setdefault("src6", set()).add(f"{name} . {mac} . {interface.ip}")
    elements.setdefault("nd", set()).add(f"{name} . {mac} . {int(interface.ip):#034x}")


def _range_rules(ranges: Iterable[tuple[str, Interface]]) -> Iterable[str]:
    """Rules for allowed address pairs that are CIDRs; these few live in a chain of the port's own."""
    for mac, interface in sorted(set(ranges), key=str):
        if isinstance(interface, IPv4Interface):
            yield f"ether saddr {mac} ip saddr {interface.network} return"
            yield f"arp saddr ether {mac} arp saddr ip {interface.network} return"
        else:
            yield f"ether saddr {mac} ip6 saddr {interface.network} return"


def _number(value: int | str) -> int:
    return value if isinstance(value, int) else int(value, 0)


def _canonical(part: str) -> str:
    if ":" in part and part.count(":") == 5 and "::" not in part:
        return part
    address = ip_address(part)
    return str(IPv6Address(int(address)) if address.version == 6 else address)
