"""Security groups as nftables text: pure functions from specs to rules and sets of addresses.

Each group has two chains, `ge_<id>` (egress) and `gi_<id>` (ingress), shared by all its ports, and as a remote group
four sets: `m4_`/`m6_<id>` for addresses and `r4_`/`r6_<id>` for members that are CIDRs.

Invariant: a rule that cannot be said in nft is left out, so a group never allows more than was asked.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import collapse_addresses

from muster.base.errors import Invalid
from muster.domain.group_members import remotes_of
from muster.domain.specs import RuleSpec, SecurityGroupSpec
from muster.host.network.checks import hex_of, interface_of, uuid_of

# Neutron's protocol names (API reference, "security group rules"), as IANA's protocol numbers.
PROTOCOLS = {
    "icmp": 1,
    "igmp": 2,
    "ipip": 4,
    "tcp": 6,
    "egp": 8,
    "udp": 17,
    "dccp": 33,
    "ipv6-encap": 41,
    "ipv6-route": 43,
    "ipv6-frag": 44,
    "rsvp": 46,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmpv6": 58,
    "ipv6-icmp": 58,
    "ipv6-nonxt": 59,
    "ipv6-opts": 60,
    "ospf": 89,
    "vrrp": 112,
    "pgm": 113,
    "sctp": 132,
    "udplite": 136,
}
_WITH_PORTS = {6: "tcp", 17: "udp", 33: "dccp", 132: "sctp", 136: "udplite"}
_ICMP, _ICMPV6 = 1, 58


def group_rules(group: SecurityGroupSpec, direction: str) -> tuple[tuple[str, ...], list[str]]:
    """A group's rules of one direction as nft text, and the ids of the rules that had to be left out."""
    rules: dict[str, None] = {}
    left_out = []
    for rule in group.rules:
        if rule.direction != direction:
            continue
        try:
            rules.update(dict.fromkeys(rule_texts(rule)))
        except Invalid:
            left_out.append(rule.id)
    return tuple(rules), left_out


def rule_texts(rule: RuleSpec) -> list[str]:
    """One rule as nft rules (two for a remote group: its addresses and its ranges). Raises Invalid."""
    family = _family(rule.ethertype)
    what = _protocol(rule, family)
    return [_join(f"ether type {family}", remote, what, "accept") for remote in _remotes(rule, family)]


def remote_groups(group: SecurityGroupSpec) -> set[str]:
    """`remotes_of` a group, checked. Raises Invalid."""
    return {uuid_of(remote) for remote in remotes_of(group)}


def member_sets(group_id: str) -> dict[str, str]:
    """The sets of a remote group: name to nft declaration."""
    name = hex_of(group_id)
    declared = {}
    for family, kind in (("4", "ipv4_addr"), ("6", "ipv6_addr")):
        declared[f"m{family}_{name}"] = f"{{ type {kind}; }}"
        declared[f"r{family}_{name}"] = f"{{ type {kind}; flags interval; }}"
    return declared


def member_elements(group_id: str, members: Iterable[str]) -> dict[str, frozenset[str]]:
    """Elements of each of a remote group's sets; ranges are merged, since nft takes no overlaps. Raises Invalid."""
    name = hex_of(group_id)
    elements: dict[str, set[str]] = {set_name: set() for set_name in member_sets(group_id)}
    ranges: dict[str, list[object]] = {"4": [], "6": []}
    for member in members:
        family, address, network = _read_member(member)
        if network is None:
            elements[f"m{family}_{name}"].add(address)
        else:
            ranges[family].append(network)
    for family, networks in ranges.items():
        elements[f"r{family}_{name}"] = {str(network) for network in collapse_addresses(networks)}  # type: ignore[type-var]
    return {set_name: frozenset(values) for set_name, values in elements.items()}


@lru_cache(maxsize=100_000)
def _read_member(member: str) -> tuple[str, str, object | None]:
    """A member's family, address, and network if it is a CIDR. The same ones come again with each change of a group."""
    interface = interface_of(member)
    alone = interface.network.prefixlen == interface.network.max_prefixlen
    return str(interface.version), str(interface.ip), None if alone else interface.network


def _family(ethertype: str) -> str:
    families = {"ipv4": "ip", "ipv6": "ip6"}
    if ethertype.lower() not in families:
        raise Invalid(f"{ethertype!r} is not IPv4 or IPv6")
    return families[ethertype.lower()]


def _remotes(rule: RuleSpec, family: str) -> list[str]:
    """The match of the far side: sources of ingress, destinations of egress."""
    if rule.direction not in ("ingress", "egress"):
        raise Invalid(f"{rule.direction!r} is not a direction")
    side = "saddr" if rule.direction == "ingress" else "daddr"
    if rule.remote_group_id:
        version, name = "4" if family == "ip" else "6", hex_of(rule.remote_group_id)
        return [f"{family} {side} @m{version}_{name}", f"{family} {side} @r{version}_{name}"]
    if not rule.remote_ip_prefix:
        return [""]
    network = interface_of(rule.remote_ip_prefix).network
    if (network.version == 4) != (family == "ip"):
        raise Invalid(f"{rule.remote_ip_prefix!r} is not of the rule's family")
    return [f"{family} {side} {network}" if network.prefixlen else ""]


def _protocol(rule: RuleSpec, family: str) -> str:
    """The match of protocol and ports, or of ICMP type and code."""
    if rule.protocol is None or rule.protocol.lower() in ("any", ""):
        if rule.port_min is not None or rule.port_max is not None:
            raise Invalid("a rule with ports needs a protocol")
        return ""
    number = _number(rule.protocol)
    if family == "ip6" and number == _ICMP:
        number = _ICMPV6  # Neutron, too, reads `icmp` with IPv6 as ICMPv6
    if rule.port_min is None and rule.port_max is None:
        return f"meta l4proto {number}"
    if number in (_ICMP, _ICMPV6):
        return _icmp(rule, "icmp" if number == _ICMP else "icmpv6")
    if number not in _WITH_PORTS:
        raise Invalid(f"protocol {rule.protocol!r} has no ports")
    return f"{_WITH_PORTS[number]} dport {_ports(rule)}"


def _number(protocol: str) -> int:
    name = protocol.lower()
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    if not (name.isascii() and name.isdigit() and int(name) <= 255):
        raise Invalid(f"{protocol!r} is not a protocol")
    return int(name)


def _icmp(rule: RuleSpec, name: str) -> str:
    kind = _bounded(rule.port_min, 255)
    if rule.port_max is None:
        return f"{name} type {kind}"
    return f"{name} type {kind} {name} code {_bounded(rule.port_max, 255)}"


def _ports(rule: RuleSpec) -> str:
    low = _bounded(rule.port_min if rule.port_min is not None else rule.port_max, 65_535)
    high = _bounded(rule.port_max if rule.port_max is not None else rule.port_min, 65_535)
    if low > high:
        raise Invalid(f"ports {low} to {high} are no range")
    return str(low) if low == high else f"{low}-{high}"


def _bounded(value: int | None, highest: int) -> int:
    if value is None or not 0 <= value <= highest:
        raise Invalid(f"{value!r} is not between 0 and {highest}")
    return int(value)


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)
