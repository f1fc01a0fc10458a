"""Updates of ports: which addresses stay, go and come."""

import pytest

from muster.domain.port_changes import address_changes, merged_options, with_mac
from muster.domain.ports import Port, WantedIp
from muster.domain.specs import AddressPair, FixedIp


def port(*fixed_ips: tuple[str, str]) -> Port:
    return Port(
        id="p",
        project_id="p1",
        network_id="n",
        name="",
        description="",
        mac_address="fa:16:3e:00:00:01",
        admin_state_up=True,
        status="DOWN",
        device_id="",
        device_owner="",
        port_security_enabled=True,
        allowed_address_pairs=(),
        extra_dhcp_opts=(),
        binding_host_id="",
        binding_vnic_type="normal",
        binding_profile={},
        dns_name="",
        revision=1,
        created_at=0.0,
        updated_at=0.0,
        fixed_ips=tuple(FixedIp(*one) for one in fixed_ips),
    )


def want(subnet_id: str | None = None, ip_address: str | None = None) -> WantedIp:
    return WantedIp(subnet_id=subnet_id, ip_address=ip_address)


A1, A2, B1 = ("a", "10.0.0.1"), ("a", "10.0.0.2"), ("b", "fd00::1")


@pytest.mark.parametrize(
    ("have", "wanted", "kept", "removed", "added"),
    [
        ([A1], [want(*A1)], [A1], [], []),
        ([A1, A2], [want("a")], [A1], [A2], []),
        ([A1, A2], [want("a"), want(None, A1[1])], [A1, A2], [], []),
        ([A1], [want("b")], [], [A1], [want("b")]),
        ([A1, B1], [], [], [A1, B1], []),
        ([B1], [want(None, "fd00:0::1")], [B1], [], []),
        ([A1], [want("a"), want("a")], [A1], [], [want("a")]),
    ],
)
def test_addresses_stay_if_they_can(have, wanted, kept, removed, added):
    result = address_changes(port(*have), wanted)
    expected = [tuple(FixedIp(*one) for one in part) for part in (kept, removed)]
    assert result == (*expected, tuple(added))


def test_options_are_merged_by_name_and_version():
    present = (
        {"opt_name": "a", "ip_version": "4", "opt_value": "1"},
        {"opt_name": "b", "ip_version": "4", "opt_value": "1"},
    )
    wanted = ({"opt_name": "a", "ip_version": "4"}, {"opt_name": "b", "ip_version": "6", "opt_value": "2"})
    assert merged_options(present, wanted) == (present[1], wanted[1])


def test_pairs_without_a_mac_get_the_ports():
    assert with_mac([AddressPair("10.0.0.9", ""), AddressPair("10.0.0.8", "x")], "m") == (
        AddressPair("10.0.0.9", "m"),
        AddressPair("10.0.0.8", "x"),
    )
