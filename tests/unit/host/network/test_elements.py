"""What a port adds to the firewall's sets."""

from hypothesis import given
from hypothesis import strategies as st

from muster.domain.specs import AddressPair, FixedIp, PortSpec
from muster.host.network.checks import link_local_of
from muster.host.network.elements import element_of, guard_elements, port_rules, profile_of, tap_of

PORT = "44444444-4444-4444-8444-444444444444"
TAP = '"tap44444444-44"'
GROUPS = ("22222222-2222-4222-8222-222222222222", "33333333-3333-4333-8333-333333333333")

macs = (
    st.integers(0, (1 << 48) - 1).map(lambda n: n & ~(1 << 40) | 2 << 40).map(lambda n: n.to_bytes(6, "big").hex(":"))
)
addresses = st.ip_addresses().map(str).filter(lambda text: "%" not in text)


def spec(**more: object) -> PortSpec:
    base: dict[str, object] = {"id": PORT, "network_id": PORT, "mac_address": "fa:16:3e:00:00:01"}
    return PortSpec(**base | more)  # type: ignore[arg-type]


@given(macs, st.lists(addresses, max_size=5), st.lists(st.tuples(addresses, macs), max_size=5))
def test_every_element_names_its_tap_and_every_address_its_mac(
    mac: str, fixed: list[str], pairs: list[tuple[str, str]]
) -> None:
    port = spec(
        mac_address=mac,
        fixed_ips=tuple(FixedIp("s", address) for address in fixed),
        allowed_address_pairs=tuple(AddressPair(*pair) for pair in pairs),
    )
    rules = port_rules(port, None)
    assert {tap_of(element) for elements in rules.elements.values() for element in elements} == {TAP.strip('"')}
    allowed = {(mac, address) for address in fixed} | {(other, address) for address, other in pairs}
    allowed.add((mac, link_local_of(mac)))
    sources = rules.elements.get("src4", frozenset()) | rules.elements["src6"]
    assert sources == {f"{TAP} . {owner} . {address}" for owner, address in allowed}
    assert rules.elements["macs"] == {f"{TAP} . {known}" for known in {mac, *(pair[1] for pair in pairs)}}
    assert len(rules.elements["nd"]) == len(rules.elements["src6"])


def test_a_plain_port() -> None:
    rules = port_rules(spec(fixed_ips=(FixedIp("s", "10.0.0.5"),), security_group_ids=GROUPS), 4097)
    profile = profile_of(GROUPS)
    assert rules.elements == {
        "secured": {TAP},
        "macs": {f"{TAP} . fa:16:3e:00:00:01"},
        "chaddr": {f"{TAP} . 0xfa163e000001"},
        "src4": {f"{TAP} . fa:16:3e:00:00:01 . 10.0.0.5"},
        "src6": {f"{TAP} . fa:16:3e:00:00:01 . fe80::f816:3eff:fe00:1"},
        "nd": {f"{TAP} . fa:16:3e:00:00:01 . 0xfe80000000000000f8163efffe000001"},
        "egress": {f"{TAP} : goto e_{profile}"},
        "ingress": {f"{TAP} : goto i_{profile}"},
        "port_zones": {f"{TAP} : 4097"},
    }
    assert rules.pair_chain is None


def test_the_order_of_groups_does_not_matter() -> None:
    assert port_rules(spec(security_group_ids=GROUPS), None) == port_rules(spec(security_group_ids=GROUPS[::-1]), None)
    assert profile_of(GROUPS) != profile_of(GROUPS[:1])


def test_without_port_security_nothing_is_checked() -> None:
    assert port_rules(spec(port_security_enabled=False), None).elements == {}


def test_a_guarded_tap_is_secured_and_may_do_nothing() -> None:
    assert guard_elements(spec(), None) == {"secured": {TAP}}


def test_ranges_get_a_chain_of_the_ports_own() -> None:
    pairs = (AddressPair("10.0.0.0/24", ""), AddressPair("2001:db8::/64", "fa:16:3e:00:00:02"))
    rules = port_rules(spec(allowed_address_pairs=pairs), None)
    assert rules.pair_chain == "pr_" + PORT.replace("-", "")
    assert rules.elements["pairs"] == {f"{TAP} : goto {rules.pair_chain}"}
    assert rules.pair_rules == (
        "ether saddr fa:16:3e:00:00:01 ip saddr 10.0.0.0/24 return",
        "arp saddr ether fa:16:3e:00:00:01 arp saddr ip 10.0.0.0/24 return",
        "ether saddr fa:16:3e:00:00:02 ip6 saddr 2001:db8::/64 return",
    )


def test_listed_elements_read_as_they_were_written() -> None:
    listed = [
        ("secured", "tap1", '"tap1"'),
        ("src6", {"concat": ["tap1", "fa:16:3e:00:00:01", "2001:db8::1"]}, '"tap1" . fa:16:3e:00:00:01 . 2001:db8::1'),
        ("nd", {"concat": ["tap1", "fa:16:3e:00:00:01", 1]}, f'"tap1" . fa:16:3e:00:00:01 . 0x{1:032x}'),
        ("chaddr", {"concat": ["tap1", 0xFA163E000001]}, '"tap1" . 0xfa163e000001'),
        ("egress", ["tap1", {"goto": {"target": "e_1"}}], '"tap1" : goto e_1'),
        ("zones", ["brq1", 4096], '"brq1" : 4096'),
        ("bridged", {"concat": ["brq1", "brq1"]}, '"brq1" . "brq1"'),
    ]
    for set_name, value, text in listed:
        assert element_of(set_name, value) == text
