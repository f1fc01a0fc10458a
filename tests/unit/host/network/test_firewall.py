"""How the firewall decides on transactions; nftables itself is replaced."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from muster.base.errors import Exhausted, Invalid
from muster.domain.specs import FixedIp, NetworkSpec, PortSpec, RuleSpec, SecurityGroupSpec, SubnetSpec
from muster.host.network.firewall import Firewall
from muster.host.network.links import bridge_mac
from muster.host.network.nft import Nftables, NftFailed
from muster.host.network.settings import Conntrack, NetworkSettings

NETWORK = "11111111-1111-4111-8111-111111111111"
GROUP = "22222222-2222-4222-8222-222222222222"
REMOTE = "33333333-3333-4333-8333-333333333333"
NAME = GROUP.replace("-", "")
SETTINGS = NetworkSettings(state_dir=Path("/x"), conntrack=Conntrack.BR_NETFILTER)


class FakeNft(Nftables):
    """Keeps transactions; refuses those after `refuse` was set, once each."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.refuse = 0

    def run(self, text: str) -> None:
        if self.refuse:
            self.refuse -= 1
            raise NftFailed("no such table")
        self.texts.append(text)

    def table(self, family: str, name: str) -> list[dict[str, object]]:
        return []

    def close(self) -> None:
        pass


def port(number: int, **more: object) -> PortSpec:
    base: dict[str, object] = {
        "id": f"{number:08x}-4444-4444-8444-444444444444",
        "network_id": NETWORK,
        "mac_address": f"fa:16:3e:00:00:{number:02x}",
        "fixed_ips": (FixedIp("s", f"10.0.0.{number}"),),
        "security_group_ids": (GROUP,),
    }
    return PortSpec(**base | more)  # type: ignore[arg-type]


def net(network_id: str = NETWORK, *, dhcp: bool = True) -> NetworkSpec:
    subnet = SubnetSpec(id="s", ip_version=4, cidr="10.0.0.0/24", dhcp_address="10.0.0.2", dhcp_enabled=dhcp)
    return NetworkSpec(id=network_id, generation=1, segment_id=1, mtu=1450, subnets=(subnet,))


def group(generation: int, protocol: str) -> SecurityGroupSpec:
    rule = RuleSpec(id="r", direction="ingress", ethertype="IPv4", protocol=protocol)
    return SecurityGroupSpec(id=GROUP, generation=generation, rules=(rule,))


@pytest.fixture
def nft() -> FakeNft:
    return FakeNft()


@pytest.fixture
def firewall(nft: FakeNft) -> Firewall:
    return Firewall(SETTINGS, nft)


def test_a_second_port_of_a_group_adds_elements_only(firewall: Firewall, nft: FakeNft) -> None:
    firewall.apply([port(1)], [group(1, "tcp")])
    firewall.apply([port(2)], [])
    assert "chain" in nft.texts[1]
    assert all(line.startswith("add element") for line in nft.texts[2].splitlines())


def test_the_same_again_is_no_transaction(firewall: Firewall, nft: FakeNft) -> None:
    for _ in range(3):
        firewall.guard([net()], [port(1)])
        firewall.apply([port(1)], [group(1, "tcp")])
    firewall.remove([port(9).id])
    assert len(nft.texts) == 3  # base rules, guard, apply


def test_what_is_said_last_counts_also_where_the_database_was_set_back(firewall: Firewall, nft: FakeNft) -> None:
    """Which of two is newer is the agent's to know. A rule that was withdrawn after a restore once stayed in force."""
    firewall.apply([port(1)], [group(7, "tcp")])
    firewall.apply([], [group(3, "udp")])
    assert f"add rule bridge muster gi_{NAME} ether type ip meta l4proto 17 accept" in nft.texts[-1]


def test_a_group_that_is_not_known_yet_lets_nothing_pass_and_is_filled_later(firewall: Firewall, nft: FakeNft) -> None:
    firewall.apply([port(1)], [])
    assert "accept" not in nft.texts[1]
    firewall.apply([], [group(1, "tcp")])
    assert f"add rule bridge muster gi_{NAME} ether type ip meta l4proto 6 accept" in nft.texts[2]


def test_a_groups_chain_is_not_made_while_no_port_uses_it(firewall: Firewall, nft: FakeNft) -> None:
    firewall.apply([], [group(1, "tcp")])
    assert len(nft.texts) == 1


def test_changed_addresses_replace_the_old_ones(firewall: Firewall, nft: FakeNft) -> None:
    firewall.apply([port(1)], [group(1, "tcp")])
    firewall.apply([port(1, fixed_ips=(FixedIp("s", "10.0.0.99"),))], [])
    assert nft.texts[2].splitlines() == [
        'delete element bridge muster src4 { "tap00000001-44" . fa:16:3e:00:00:01 . 10.0.0.1 }',
        'add element bridge muster src4 { "tap00000001-44" . fa:16:3e:00:00:01 . 10.0.0.99 }',
    ]


def test_a_guard_does_not_take_rules_away(firewall: Firewall, nft: FakeNft) -> None:
    firewall.apply([port(1, port_security_enabled=False)], [])
    firewall.guard([net()], [port(1, port_security_enabled=False)])
    assert not any("secured" in text for text in nft.texts[1:])


def test_a_bad_port_changes_nothing(firewall: Firewall, nft: FakeNft) -> None:
    with pytest.raises(Invalid):
        firewall.apply([port(1), port(2, mac_address="x")], [group(1, "tcp")])
    firewall.apply([], [])
    assert len(nft.texts) == 1


def test_after_a_refusal_everything_known_is_said_again(firewall: Firewall, nft: FakeNft) -> None:
    firewall.apply([port(1)], [group(1, "tcp")])
    nft.refuse = 1
    firewall.apply([port(2)], [])
    assert "tap00000001-44" in nft.texts[-1]
    assert "tap00000002-44" in nft.texts[-1]
    assert f"add chain bridge muster gi_{NAME}" in nft.texts[-1]


def test_a_refusal_that_stays_is_told_and_forgets_nothing(firewall: Firewall, nft: FakeNft) -> None:
    firewall.apply([port(1)], [group(1, "tcp")])
    nft.refuse = 3
    with pytest.raises(NftFailed):
        firewall.apply([port(2)], [])
    nft.refuse = 0
    firewall.apply([port(2)], [])
    assert "tap00000002-44" in nft.texts[-1]


def refused(firewall: Firewall, nft: FakeNft, what: Callable[[], None]) -> None:
    """nftables takes nothing for a moment, not even what is said to see how things stand."""
    nft.refuse = 2
    with pytest.raises(NftFailed):
        what()
    assert not nft.refuse


def test_a_change_of_a_group_that_was_refused_is_made_with_the_next_try(firewall: Firewall, nft: FakeNft) -> None:
    """It once counted as made: what a withdrawn rule had allowed stayed allowed until the agent was restarted."""
    rule = RuleSpec(id="r", direction="ingress", ethertype="IPv4", remote_group_id=REMOTE)
    remote = SecurityGroupSpec(id=REMOTE, generation=1, members=("10.0.0.1",))
    firewall.apply([port(1)], [SecurityGroupSpec(id=GROUP, generation=1, rules=(rule,)), remote])
    changed = [group(2, "udp"), msgspec.structs.replace(remote, member_generation=2, members=())]
    refused(firewall, nft, lambda: firewall.apply([], changed))
    firewall.apply([], changed)
    assert f"add rule bridge muster gi_{NAME} ether type ip meta l4proto 17 accept" in nft.texts[-1]
    assert f"delete element bridge muster m4_{REMOTE.replace('-', '')} {{ 10.0.0.1 }}" in nft.texts[-1]
    said = len(nft.texts)
    firewall.apply([], changed)
    assert len(nft.texts) == said


def test_another_dhcp_that_was_refused_is_made_with_the_next_try(firewall: Firewall, nft: FakeNft) -> None:
    firewall.guard([net()], [port(1)])
    firewall.apply([port(1)], [group(1, "tcp")])
    refused(firewall, nft, lambda: firewall.guard([net(dhcp=False)], []))
    firewall.guard([net(dhcp=False)], [])
    assert nft.texts[-1] == 'delete element bridge muster dhcp4 { "tap00000001-44" }\n'
    said = len(nft.texts)
    firewall.guard([net(dhcp=False)], [])
    assert len(nft.texts) == said


def test_networks_get_zones_of_their_own_and_run_out_of_them(firewall: Firewall, nft: FakeNft) -> None:
    ids = [f"{number:08x}-1111-4111-8111-111111111111" for number in range(61_440)]
    firewall.guard([net(network_id) for network_id in ids[:2]], [])
    assert '"brq00000000-11" : 4096, "brq00000001-11" : 4097' in nft.texts[1]
    firewall.guard([net(network_id) for network_id in ids], [])
    with pytest.raises(Exhausted):
        firewall.guard([net()], [])


def test_a_zone_rests_before_it_is_used_again(firewall: Firewall, nft: FakeNft) -> None:
    first, second, third = (f"{number:08x}-1111-4111-8111-111111111111" for number in range(3))
    firewall.guard([net(first), net(second)], [])
    firewall.keep([net(second)], [])
    firewall.guard([net(third)], [])
    assert '"brq00000002-11" : 4098' in nft.texts[-1]


def test_a_remote_groups_members_are_added_and_deleted_one_by_one(firewall: Firewall, nft: FakeNft) -> None:
    rule = RuleSpec(id="r", direction="ingress", ethertype="IPv4", remote_group_id=REMOTE)
    remote = SecurityGroupSpec(id=REMOTE, generation=1, members=("10.0.0.1", "10.0.0.2"))
    firewall.apply([port(1)], [SecurityGroupSpec(id=GROUP, generation=1, rules=(rule,)), remote])
    firewall.apply([], [SecurityGroupSpec(id=REMOTE, generation=2, members=("10.0.0.2", "10.0.0.3"))])
    name = "m4_" + REMOTE.replace("-", "")
    assert nft.texts[2].splitlines() == [
        f"delete element bridge muster {name} {{ 10.0.0.1 }}",
        f"add element bridge muster {name} {{ 10.0.0.3 }}",
    ]


def test_dhcp_requests_go_to_the_hosts_server_only_where_it_serves_the_port(firewall: Firewall, nft: FakeNft) -> None:
    elsewhere = port(2, fixed_ips=(FixedIp("other", "10.1.0.2"),))
    firewall.guard([net()], [port(1), elsewhere])
    firewall.apply([port(1), elsewhere], [group(1, "tcp")])
    mac = bridge_mac(NETWORK)
    assert f'add element bridge muster dhcp4 {{ "tap00000001-44" : {mac} }}\n' in nft.texts[-1]
    firewall.guard([net(dhcp=False)], [])
    assert nft.texts[-1] == 'delete element bridge muster dhcp4 { "tap00000001-44" }\n'
    firewall.guard([net()], [])
    assert nft.texts[-1] == f'add element bridge muster dhcp4 {{ "tap00000001-44" : {mac} }}\n'


def test_a_new_port_of_known_groups_is_one_transaction_before_its_tap_is_there(
    firewall: Firewall, nft: FakeNft
) -> None:
    firewall.guard([net()], [port(1)])
    firewall.apply([port(1)], [group(1, "tcp")])
    before = len(nft.texts)
    firewall.guard([net()], [port(2)])
    assert 'egress { "tap00000002-44" : goto e_' in nft.texts[-1]
    firewall.apply([port(2)], [])
    assert len(nft.texts) == before + 1
    firewall.guard([net()], [port(3, security_group_ids=(REMOTE,))])
    assert nft.texts[-1] == 'add element bridge muster secured { "tap00000003-44" }\n', "shut until the group is known"


def test_groups_that_no_port_is_in_any_more_are_forgotten(firewall: Firewall, nft: FakeNft) -> None:
    firewall.apply([port(1)], [group(1, "tcp")])
    firewall.remove([port(1).id])
    firewall.keep([], [])
    assert not firewall._groups
    assert not firewall._members
    firewall.apply([port(2)], [group(1, "tcp")])
    assert f"add rule bridge muster gi_{NAME} ether type ip meta l4proto 6 accept" in nft.texts[-1]
