"""Subnets: defaults and checks."""

import pytest

from muster.base.errors import MusterError
from muster.domain.subnets import NewSubnet, Pool, completed


def draft(cidr: str, **fields: object) -> NewSubnet:
    version = 6 if ":" in cidr else 4
    return NewSubnet(id="s", project_id="p", network_id="n", ip_version=version, cidr=cidr, **fields)


@pytest.mark.parametrize(
    ("cidr", "gateway", "pools"),
    [
        ("10.0.0.0/24", "10.0.0.1", [Pool("10.0.0.2", "10.0.0.254")]),
        ("10.0.0.0/30", "10.0.0.1", [Pool("10.0.0.2", "10.0.0.2")]),
        ("10.0.0.0/12", "10.0.0.1", [Pool("10.0.0.2", "10.15.255.254")]),
        ("fd00::/64", "fd00::1", [Pool("fd00::2", "fd00::ffff:ffff:ffff:ffff")]),
    ],
)
def test_gateway_and_pools_of_a_plain_subnet(cidr, gateway, pools):
    subnet = completed(draft(cidr), 1.0)
    assert (subnet.gateway_ip, list(subnet.allocation_pools)) == (gateway, pools)


def test_a_subnet_of_one_address_has_no_gateway():
    subnet = completed(draft("10.0.0.7/32", enable_dhcp=False), 1.0)
    assert (subnet.gateway_ip, subnet.allocation_pools) == (None, (Pool("10.0.0.7", "10.0.0.7"),))


def test_pools_may_be_unsorted_and_touch():
    pools = (Pool("10.0.0.20", "10.0.0.30"), Pool("10.0.0.10", "10.0.0.19"))
    assert completed(draft("10.0.0.0/24", allocation_pools=pools), 1.0).allocation_pools == pools


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"allocation_pools": (Pool("10.0.0.20", "10.0.0.30"), Pool("10.0.0.30", "10.0.0.31"))}, "Overlapping"),
        ({"allocation_pools": (Pool("10.0.0.20", "10.0.0.255"),)}, "OutOfBounds"),
        ({"gateway_ip": "10.0.0.20", "allocation_pools": (Pool("10.0.0.10", "10.0.0.30"),)}, "GatewayConflict"),
        ({"gateway_ip": "10.0.0.0"}, "InvalidInput"),
        ({"gateway_ip": "224.0.0.1"}, "InvalidInput"),
    ],
)
def test_what_is_refused(fields, code):
    with pytest.raises(MusterError) as caught:
        completed(draft("10.0.0.0/24", **fields), 1.0)
    assert caught.value.code.startswith(f"network.{code}")


def test_a_link_local_gateway_is_fine_for_ipv6():
    assert completed(draft("fd00::/64", gateway_ip="fe80::1"), 1.0).gateway_ip == "fe80::1"
