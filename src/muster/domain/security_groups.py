"""Security groups, the rules in them, and the checks that Neutron makes of a rule. Pure.

`fingerprint` is the same for two rules exactly when they let through the same traffic by the same terms, so that a
unique key refuses a double however it was spelt.
"""

from collections.abc import Mapping
from hashlib import sha256
from ipaddress import ip_network

from msgspec import UNSET, Struct, UnsetType

from muster.domain.network_errors import network_error

DEFAULT_NAME = "default"
INGRESS = "ingress"
EGRESS = "egress"
ETHERTYPES = ("IPv4", "IPv6")

# IANA's protocol numbers by the names that Neutron takes.
PROTOCOL_NUMBERS: Mapping[str, int] = {
    "hopopt": 0,
    "icmp": 1,
    "igmp": 2,
    "ipip": 4,
    "ipv6-encap": 41,
    "ipv6-route": 43,
    "ipv6-frag": 44,
    "ipv6-icmp": 58,
    "ipv6-nonxt": 59,
    "ipv6-opts": 60,
    "icmpv6": 58,
    "tcp": 6,
    "egp": 8,
    "udp": 17,
    "dccp": 33,
    "rsvp": 46,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "ospf": 89,
    "pgm": 113,
    "vrrp": 112,
    "sctp": 132,
    "udplite": 136,
}
_PORT_PROTOCOLS = frozenset({6, 17, 33, 132, 136})
_ICMP = 1
_ICMPV6 = 58
_IPV6_ONLY = frozenset({"ipv6-encap", "ipv6-route", "ipv6-frag", "ipv6-icmp", "ipv6-nonxt", "ipv6-opts", "icmpv6"})


class SecurityGroupRule(Struct, frozen=True, kw_only=True):
    """A rule as it is. For ICMP `port_range_min` is the type and `port_range_max` the code."""

    id: str
    project_id: str
    security_group_id: str
    description: str
    direction: str
    ethertype: str
    protocol: str | None
    port_range_min: int | None
    port_range_max: int | None
    remote_ip_prefix: str | None
    remote_group_id: str | None
    revision: int
    created_at: float
    updated_at: float
    belongs_to_default: bool = False

    @property
    def normalized_cidr(self) -> str | None:
        """The remote prefix without host bits."""
        return str(ip_network(self.remote_ip_prefix, strict=False)) if self.remote_ip_prefix else None


class NewRule(Struct, frozen=True, kw_only=True):
    """A rule to be made, already parsed."""

    id: str
    project_id: str
    security_group_id: str
    direction: str
    ethertype: str = "IPv4"
    description: str = ""
    protocol: str | None = None
    port_range_min: int | None = None
    port_range_max: int | None = None
    remote_ip_prefix: str | None = None
    remote_group_id: str | None = None


class SecurityGroup(Struct, frozen=True, kw_only=True):
    """A security group as it is, with its rules."""

    id: str
    project_id: str
    name: str
    description: str
    is_default: bool
    stateful: bool
    revision: int
    created_at: float
    updated_at: float
    rules: tuple[SecurityGroupRule, ...] = ()
    tags: tuple[str, ...] = ()


class NewSecurityGroup(Struct, frozen=True, kw_only=True):
    """A security group to be made, already parsed."""

    id: str
    project_id: str
    name: str = ""
    description: str = ""
    stateful: bool = True
    is_default: bool = False


class SecurityGroupChanges(Struct, frozen=True, kw_only=True):
    """What an update sets."""

    name: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    stateful: bool | UnsetType = UNSET


def initial_rules(group: NewSecurityGroup, ids: list[str]) -> list[NewRule]:
    """The rules that a new group starts with: everything out; in a default group, everything in from itself.

    `ids` are those of the new rules: two, four for a default group.
    """
    rules: list[NewRule] = []
    directions = (EGRESS, INGRESS) if group.is_default else (EGRESS,)
    for direction in directions:
        for ethertype in ETHERTYPES:
            rules.append(
                NewRule(
                    id=ids[len(rules)],
                    project_id=group.project_id,
                    security_group_id=group.id,
                    direction=direction,
                    ethertype=ethertype,
                    remote_group_id=group.id if direction == INGRESS else None,
                )
            )
    return rules


def protocol_number(protocol: str, ethertype: str) -> int:
    """The number of a protocol's name or number in text; ICMP means ICMPv6 with IPv6."""
    number = int(protocol) if protocol.isdecimal() else PROTOCOL_NUMBERS[protocol]
    return _ICMPV6 if number == _ICMP and ethertype == "IPv6" else number


def check_rule(rule: NewRule) -> None:
    """Raises Invalid with Neutron's types for a rule that contradicts itself."""
    if rule.remote_ip_prefix and rule.remote_group_id:
        raise network_error("SecurityGroupRemoteGroupAndRemoteIpPrefix")
    if rule.protocol in _IPV6_ONLY and rule.ethertype == "IPv4":
        raise network_error(
            "SecurityGroupEthertypeConflictWithProtocol", ethertype=rule.ethertype, protocol=rule.protocol
        )
    if rule.remote_ip_prefix:
        version = ip_network(rule.remote_ip_prefix, strict=False).version
        if rule.ethertype != f"IPv{version}":
            raise network_error(
                "SecurityGroupRuleParameterConflict", ethertype=rule.ethertype, cidr=rule.remote_ip_prefix
            )
    _check_ports(rule)


def _check_ports(rule: NewRule) -> None:
    low, high = rule.port_range_min, rule.port_range_max
    if low is None and high is None:
        return
    if rule.protocol is None:
        raise network_error("SecurityGroupProtocolRequiredWithPorts")
    number = protocol_number(rule.protocol, rule.ethertype)
    if number in _PORT_PROTOCOLS:
        if low == 0 or high == 0:
            raise network_error("SecurityGroupInvalidPortValue", port=0)
        if low is None or high is None or low > high:
            raise network_error("SecurityGroupInvalidPortRange")
    elif number in {_ICMP, _ICMPV6}:
        for attr, field, value in (("port_range_min", "type", low), ("port_range_max", "code", high)):
            if value is not None and not 0 <= value <= 255:
                raise network_error("SecurityGroupInvalidIcmpValue", field=field, attr=attr, value=value)
        if low is None:
            raise network_error("SecurityGroupMissingIcmpType", value=high)
    else:
        valid = ", ".join(name for name, value in PROTOCOL_NUMBERS.items() if value in _PORT_PROTOCOLS)
        raise network_error("SecurityGroupInvalidProtocolForPort", protocol=rule.protocol, valid_protocols=valid)


def fingerprint(rule: NewRule) -> str:
    """A text that two rules of one group share exactly when they are the same rule."""
    prefix = str(ip_network(rule.remote_ip_prefix, strict=False)) if rule.remote_ip_prefix else None
    if prefix in {"0.0.0.0/0", "::/0"}:
        prefix = None
    number = protocol_number(rule.protocol, rule.ethertype) if rule.protocol else None
    parts = (
        rule.direction,
        rule.ethertype,
        number,
        rule.port_range_min,
        rule.port_range_max,
        prefix,
        rule.remote_group_id,
    )
    return sha256("|".join("" if part is None else str(part) for part in parts).encode()).hexdigest()
