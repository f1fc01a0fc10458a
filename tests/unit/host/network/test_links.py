"""Whose an interface is, and what a bridge carries."""

import errno

import pytest

from muster.base.errors import Exhausted
from muster.domain.specs import NetworkSpec, SubnetSpec
from muster.host.network import sysctl
from muster.host.network.links import LINK_GROUP, Links, bridge_addresses, bridge_mac, is_ours, refuse_errors
from muster.host.network.rtnl import Answer, Link, Request, RtnlFailed

NETWORK = "11111111-1111-4111-8111-111111111111"


@pytest.mark.parametrize(
    ("link", "ours"),
    [
        (Link(2, "tap1", alias="muster:port:x"), True),
        (Link(2, "anything", alias="muster:network:x"), True),
        (Link(2, "brq1", group=LINK_GROUP), True),  # a crash came before its alias
        (Link(2, "tap1"), False),
        (Link(2, "brq1"), False),
        (Link(2, "tap1", alias="somebody's", group=LINK_GROUP), False),
        (Link(2, "eth0", group=LINK_GROUP), False),
    ],
)
def test_only_marked_interfaces_are_ours(link: Link, ours: bool) -> None:
    assert is_ours(link) is ours


def test_a_bridges_mac_is_local_and_always_the_same() -> None:
    assert bridge_mac(NETWORK) == bridge_mac(NETWORK.replace("-", ""))
    first = int(bridge_mac(NETWORK)[:2], 16)
    assert first & 3 == 2


def test_a_bridge_carries_the_dhcp_addresses_and_the_metadata_address() -> None:
    subnets = (
        SubnetSpec(id="a", ip_version=4, cidr="10.0.0.0/20", dhcp_address="10.0.0.2"),
        SubnetSpec(id="b", ip_version=6, cidr="2001:db8::/64", dhcp_address="2001:DB8::2"),
        SubnetSpec(id="c", ip_version=4, cidr="10.9.0.0/20"),
    )
    assert bridge_addresses(NetworkSpec(id=NETWORK, generation=1, segment_id=1, subnets=subnets)) == [
        ("10.0.0.2", 20, 4),
        ("2001:db8::2", 64, 6),
        ("169.254.169.254", 32, 4),
    ]


def test_refusals_are_told() -> None:
    refuse_errors([Answer(0), Answer(errno.EEXIST)], "x", lambda error: error == errno.EEXIST)
    with pytest.raises(RtnlFailed, match="EPERM"):
        refuse_errors([Answer(errno.EPERM)], "x", lambda error: False)
    with pytest.raises(Exhausted):
        refuse_errors([Answer(errno.EXFULL)], "x", lambda error: False)


def test_a_bridge_that_was_nearly_deleted_is_taken_out_of_the_doomed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that died, or was refused, between dooming a bridge and deleting the doomed left it in their group: the
    next deletion of anything would have taken the bridge along, under its guests."""
    sent: list[Request] = []

    class Kernel:
        def batch(self, requests: list[Request]) -> list[Answer]:
            sent.extend(requests)
            return [Answer(0) for _ in requests]

    monkeypatch.setattr(sysctl, "write", lambda *_: None)
    links = Links()
    links._rtnl = Kernel()  # type: ignore[assignment]
    links._address_bridges({NETWORK: NetworkSpec(id=NETWORK, generation=1, segment_id=1)}, {"brq11111111-11": 5})
    assert dict(sent[0]["attrs"])["IFLA_GROUP"] == LINK_GROUP
