"""Rules: when two are the same."""

import pytest
from msgspec.structs import replace

from muster.domain.security_groups import NewRule, fingerprint

RULE = NewRule(id="r", project_id="p", security_group_id="g", direction="ingress", protocol="tcp", port_range_min=1)


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "other", "description": "other", "project_id": "other"},
        {"protocol": "6"},
        {"remote_ip_prefix": "0.0.0.0/0"},
    ],
)
def test_the_same_traffic_is_the_same_rule(fields):
    assert fingerprint(replace(RULE, **fields)) == fingerprint(RULE)


@pytest.mark.parametrize(
    "fields",
    [
        {"direction": "egress"},
        {"ethertype": "IPv6"},
        {"protocol": "udp"},
        {"protocol": None, "port_range_min": None},
        {"port_range_min": None, "port_range_max": 1},
        {"remote_ip_prefix": "10.0.0.0/8"},
        {"remote_group_id": "g"},
    ],
)
def test_other_traffic_is_another_rule(fields):
    assert fingerprint(replace(RULE, **fields)) != fingerprint(RULE)


def test_icmp_means_icmpv6_with_ipv6():
    v6 = replace(RULE, ethertype="IPv6", port_range_min=None)
    assert len({fingerprint(replace(v6, protocol=name)) for name in ("icmp", "icmpv6", "ipv6-icmp", "58", "1")}) == 1
