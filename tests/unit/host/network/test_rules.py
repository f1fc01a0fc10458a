"""Security group rules as nft text."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.base.errors import Invalid
from muster.domain.specs import RuleSpec, SecurityGroupSpec
from muster.host.network.rules import PROTOCOLS, group_rules, member_elements, remote_groups, rule_texts

REMOTE = "33333333-3333-4333-8333-333333333333"
HEX = REMOTE.replace("-", "")


def rule(**more: Any) -> RuleSpec:
    return RuleSpec(**{"id": "r", "direction": "ingress", "ethertype": "IPv4"} | more)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (rule(), "ether type ip accept"),
        (rule(ethertype="IPv6"), "ether type ip6 accept"),
        (rule(protocol="any"), "ether type ip accept"),
        (rule(protocol="tcp"), "ether type ip meta l4proto 6 accept"),
        (rule(protocol="TCP", port_min=80, port_max=80), "ether type ip tcp dport 80 accept"),
        (rule(protocol="6", port_min=1, port_max=65535), "ether type ip tcp dport 1-65535 accept"),
        (rule(protocol="sctp", port_min=5, port_max=6), "ether type ip sctp dport 5-6 accept"),
        (rule(protocol="icmp"), "ether type ip meta l4proto 1 accept"),
        (rule(protocol="icmp", port_min=0), "ether type ip icmp type 0 accept"),
        (rule(protocol="icmp", port_min=3, port_max=4), "ether type ip icmp type 3 icmp code 4 accept"),
        (rule(protocol="icmp", ethertype="IPv6"), "ether type ip6 meta l4proto 58 accept"),
        (rule(protocol="ipv6-icmp", ethertype="IPv6", port_min=128), "ether type ip6 icmpv6 type 128 accept"),
        (rule(remote_ip_prefix="10.1.2.3/8"), "ether type ip ip saddr 10.0.0.0/8 accept"),
        (rule(remote_ip_prefix="0.0.0.0/0"), "ether type ip accept"),
        (rule(direction="egress", remote_ip_prefix="10.0.0.1"), "ether type ip ip daddr 10.0.0.1/32 accept"),
    ],
)
def test_texts(spec: RuleSpec, text: str) -> None:
    assert rule_texts(spec) == [text]


def test_a_remote_group_is_two_sets() -> None:
    assert rule_texts(rule(remote_group_id=REMOTE, protocol="udp")) == [
        f"ether type ip ip saddr @m4_{HEX} meta l4proto 17 accept",
        f"ether type ip ip saddr @r4_{HEX} meta l4proto 17 accept",
    ]
    assert remote_groups(SecurityGroupSpec(id=REMOTE, generation=1, rules=(rule(remote_group_id=REMOTE), rule()))) == {
        REMOTE
    }


@pytest.mark.parametrize(
    "spec",
    [
        rule(protocol="nonsense"),
        rule(protocol="256"),
        rule(protocol="²"),
        rule(port_min=1, port_max=2),
        rule(protocol="gre", port_min=1, port_max=2),
        rule(protocol="tcp", port_min=2, port_max=1),
        rule(protocol="tcp", port_min=-1, port_max=1),
        rule(protocol="tcp", port_min=1, port_max=65536),
        rule(protocol="icmp", port_min=256),
        rule(protocol="icmp", port_max=1),
        rule(ethertype="IPv6", remote_ip_prefix="10.0.0.0/8"),
        rule(ethertype="ARP"),
        rule(remote_ip_prefix="10.0.0.0/8; accept"),
        rule(remote_group_id="x"),
        rule(direction="sideways"),
    ],
)
def test_what_cannot_be_said_is_left_out(spec: RuleSpec) -> None:
    with pytest.raises(Invalid):
        rule_texts(spec)
    group = SecurityGroupSpec(id=REMOTE, generation=1, rules=(spec, rule(protocol="tcp")))
    if spec.direction == "ingress":
        assert group_rules(group, "ingress") == (("ether type ip meta l4proto 6 accept",), ["r"])


numbers = st.none() | st.integers(-2, 70_000)


@given(
    st.builds(
        RuleSpec,
        id=st.just("r"),
        direction=st.sampled_from(["ingress", "egress"]),
        ethertype=st.sampled_from(["IPv4", "IPv6"]),
        protocol=st.none() | st.sampled_from([*PROTOCOLS, "any", "0", "255"]) | st.text(max_size=5),
        port_min=numbers,
        port_max=numbers,
        remote_ip_prefix=st.none() | st.ip_addresses().map(str) | st.text(max_size=20),
    )
)
def test_whatever_comes_in_only_a_plain_rule_comes_out(spec: RuleSpec) -> None:
    try:
        texts = rule_texts(spec)
    except Invalid:
        return
    for text in texts:
        assert re.fullmatch(r"ether type ip6? [a-z0-9 .:/-]*accept", text)


def test_members_are_addresses_and_merged_ranges() -> None:
    members = (
        "10.0.0.1",
        "10.0.0.1/32",
        "10.1.0.0/25",
        "10.1.0.128/25",
        "10.1.0.5/30",
        "2001:DB8::1",
        "2001:db8:1::/64",
    )
    assert member_elements(REMOTE, members) == {
        f"m4_{HEX}": {"10.0.0.1"},
        f"r4_{HEX}": {"10.1.0.0/24"},
        f"m6_{HEX}": {"2001:db8::1"},
        f"r6_{HEX}": {"2001:db8:1::/64"},
    }
