"""The generated nftables and dnsmasq texts, word for word. `UPDATE_GOLDEN=1` writes them anew, for review by diff."""

import os
from pathlib import Path

import pytest

from muster.domain.specs import (
    AddressPair,
    FixedIp,
    HostRoute,
    NetworkSpec,
    PortSpec,
    RuleSpec,
    SecurityGroupSpec,
    SubnetSpec,
)
from muster.host.network.dnsmasq_config import ServerFiles, config_text, host_lines, hosts_text
from muster.host.network.firewall import Firewall
from muster.host.network.nft import Nftables
from muster.host.network.ruleset import base_text
from muster.host.network.settings import Conntrack, NetworkSettings
from muster.host.ports import PlumbedPort

HERE = Path(__file__).parent
SETTINGS = NetworkSettings(state_dir=Path("/var/lib/muster/network"))
NETWORK = "11111111-1111-4111-8111-111111111111"
GROUP = "22222222-2222-4222-8222-222222222222"
REMOTE = "33333333-3333-4333-8333-333333333333"
PORTS = ("44444444-4444-4444-8444-444444444444", "55555555-5555-4555-8555-555555555555")


def check(name: str, text: str) -> None:
    path = HERE / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


class Recorder(Nftables):
    """Stands where libnftables would; keeps what it is told, and has empty tables."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def run(self, text: str) -> None:
        self.texts.append(text)

    def table(self, family: str, name: str) -> list[dict[str, object]]:
        return []

    def close(self) -> None:
        pass


def port(number: int) -> PortSpec:
    return PortSpec(
        id=PORTS[number],
        network_id=NETWORK,
        mac_address=f"FA:16:3E:00:00:0{number + 1}",
        fixed_ips=(FixedIp("four", f"10.80.0.{11 + number}"), FixedIp("six", f"2001:db8::{11 + number}")),
        security_group_ids=(GROUP,),
        allowed_address_pairs=(AddressPair("10.80.0.128/25", ""), AddressPair("10.80.0.50", "00:00:5e:00:01:07"))
        if number
        else (),
    )


def rule(direction: str, **more: object) -> RuleSpec:
    return RuleSpec(id="rule", direction=direction, **{"ethertype": "IPv4"} | more)  # type: ignore[arg-type]


RULES = (
    rule("egress"),
    rule("egress", ethertype="IPv6"),
    rule("ingress", protocol="tcp", port_min=22, port_max=22),
    rule("ingress", protocol="udp", port_min=1000, port_max=2000, remote_ip_prefix="192.0.2.0/24"),
    rule("ingress", protocol="icmp", port_min=8, port_max=0),
    rule("ingress", ethertype="IPv6", protocol="icmp", port_min=128),
    rule("ingress", protocol="112"),
    rule("ingress", protocol="icmp", remote_ip_prefix="0.0.0.0/0"),
    rule("ingress", remote_group_id=REMOTE),
    rule("ingress", ethertype="IPv6", protocol="tcp", remote_group_id=REMOTE),
)


@pytest.mark.parametrize("conntrack", [Conntrack.BRIDGE, Conntrack.BR_NETFILTER])
def test_base_rules(conntrack: Conntrack) -> None:
    check(f"base-{conntrack.value}.nft", base_text(conntrack, SETTINGS))


def test_base_rules_of_an_open_host() -> None:
    settings = NetworkSettings(state_dir=Path("/x"), open_tcp_ports=(443, 22), guests_may_route=True)
    check("base-open-host.nft", base_text(Conntrack.BR_NETFILTER, settings))


@pytest.mark.parametrize("conntrack", [Conntrack.BRIDGE, Conntrack.BR_NETFILTER])
def test_transactions(conntrack: Conntrack) -> None:
    """Guard two taps, give them rules, change the group, change a member, take one port away."""
    recorder = Recorder()
    firewall = Firewall(NetworkSettings(state_dir=Path("/x"), conntrack=conntrack), recorder)
    ports = [port(0), port(1)]
    members = ("10.80.0.11", "2001:db8::11", "198.51.100.0/25", "198.51.100.128/25")
    group = SecurityGroupSpec(id=GROUP, generation=1, rules=RULES)
    remote = SecurityGroupSpec(id=REMOTE, generation=1, members=members)
    firewall.guard([network()], ports)
    firewall.apply(ports, [group, remote])
    firewall.apply(ports, [group, remote])
    firewall.apply([], [SecurityGroupSpec(id=GROUP, generation=2, rules=RULES[:4], stateful=False)])
    firewall.apply([], [SecurityGroupSpec(id=REMOTE, generation=2, members=(*members[1:3], "10.80.0.12"))])
    firewall.remove([PORTS[1]])
    check(f"transactions-{conntrack.value}.nft", "\n".join(recorder.texts[1:]))


def network(**more: object) -> NetworkSpec:
    subnets = (
        SubnetSpec(
            id="four",
            ip_version=4,
            cidr="10.80.0.0/16",
            gateway_ip="10.80.0.1",
            dhcp_address="10.80.0.2",
            dns_nameservers=("192.0.2.53",),
            host_routes=(HostRoute("198.51.100.0/24", "10.80.0.9"),),
        ),
        SubnetSpec(
            id="six",
            ip_version=6,
            cidr="2001:db8::/64",
            dhcp_address="2001:db8::2",
            dns_nameservers=("2001:db8::53",),
            ipv6_address_mode="dhcpv6-stateful",
            ipv6_ra_mode="dhcpv6-stateful",
        ),
        SubnetSpec(id="auto", ip_version=6, cidr="2001:db8:1::/64", dhcp_address="2001:db8:1::2", ipv6_ra_mode="slaac"),
        SubnetSpec(id="isolated", ip_version=4, cidr="10.81.0.0/24", dhcp_address="10.81.0.2"),
        SubnetSpec(id="silent", ip_version=4, cidr="10.82.0.0/24", dhcp_enabled=False),
    )
    return NetworkSpec(id=NETWORK, generation=1, segment_id=1, dns_domain="Example.org.", subnets=subnets)


def test_dnsmasq_configuration() -> None:
    files = ServerFiles(SETTINGS.state_dir / "dhcp" / NETWORK)
    check("dnsmasq.conf", config_text(network(), files, SETTINGS))


def test_dnsmasq_hosts() -> None:
    ports = [PlumbedPort("server", name, port(number)) for number, name in enumerate(("Web_1.example.org", "--"))]
    check("dnsmasq.hosts", hosts_text({item.port.id: host_lines(item, network()) for item in ports}))
