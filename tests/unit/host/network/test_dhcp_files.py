"""Host entries on disk, configurations, and what of them survives a crash."""

import os
import struct
from pathlib import Path

import pytest

from muster.base.errors import Invalid
from muster.domain.specs import FixedIp, NetworkSpec, PortSpec, SubnetSpec
from muster.host.network.dhcp_release import release_packet
from muster.host.network.dhcp_server import DhcpServer
from muster.host.network.dnsmasq_config import ServerFiles, config_text, host_lines, hosts_text, parse_hosts, serves
from muster.host.network.settings import NetworkSettings
from muster.host.ports import PlumbedPort

PORTS = ["44444444-4444-4444-8444-444444444444", "55555555-5555-4555-8555-555555555555"]
NETWORK = "11111111-1111-4111-8111-111111111111"
ENTRIES = {
    PORTS[0]: ("fa:16:3e:00:00:01,10.0.0.1,a",),
    PORTS[1]: ("fa:16:3e:00:00:02,10.0.0.2,b", "fa:16:3e:00:00:02,[2001:db8::2],b"),
}


def subnet(**more: object) -> SubnetSpec:
    base: dict[str, object] = {"id": "s", "ip_version": 4, "cidr": "10.0.0.0/24", "dhcp_address": "10.0.0.250"}
    return SubnetSpec(**base | more)  # type: ignore[arg-type]


def network(*subnets: SubnetSpec, **more: object) -> NetworkSpec:
    return NetworkSpec(id=NETWORK, generation=1, segment_id=1, subnets=subnets, **more)  # type: ignore[arg-type]


def server(folder: Path) -> DhcpServer:
    return DhcpServer(folder / NETWORK, NetworkSettings(state_dir=folder, dhcp_timeout_s=0.1))


def test_entries_read_as_they_were_written() -> None:
    assert parse_hosts(hosts_text(ENTRIES)) == ENTRIES
    assert hosts_text({PORTS[0]: ()}) == ""


@pytest.mark.parametrize("text", ["fa:16:3e:00:00:01,10.0.0.1,a\n", f"# {PORTS[0]}\nx\n", "# x\n"])
def test_other_text_is_invalid(text: str) -> None:
    with pytest.raises(Invalid):
        parse_hosts(text)


def test_entries_are_found_again(tmp_path: Path) -> None:
    server(tmp_path).replace(ENTRIES)
    again = server(tmp_path)
    assert not again.differs(ENTRIES)
    assert again.differs({PORTS[0]: ENTRIES[PORTS[0]]})
    assert again.addresses["2001:db8::2"] == (PORTS[1], "fa:16:3e:00:00:02")


def test_a_crash_while_writing_all_anew_is_noticed(tmp_path: Path) -> None:
    """The new file stands beside the old ones: dnsmasq would see entries twice."""
    first = server(tmp_path)
    first.replace(ENTRIES)
    os.link(first.files.hosts / "0", first.files.hosts / "1")
    again = server(tmp_path)
    assert again.differs(ENTRIES)
    again.replace(ENTRIES)
    assert not server(tmp_path).differs(ENTRIES)
    assert len(list(first.files.hosts.iterdir())) == 1


def test_a_damaged_file_is_noticed(tmp_path: Path) -> None:
    first = server(tmp_path)
    first.replace(ENTRIES)
    (first.files.hosts / "1").write_bytes(b"\xff")
    assert server(tmp_path).differs(ENTRIES)


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    first = server(tmp_path)
    first.replace(ENTRIES)
    assert first.files.hosts.stat().st_mode & 0o777 == 0o700
    assert (first.files.hosts / "0").stat().st_mode & 0o777 == 0o600


def test_which_subnets_are_served() -> None:
    subnets = (
        subnet(),
        subnet(dhcp_enabled=False),
        subnet(dhcp_address=None),
        subnet(
            ip_version=6, cidr="2001:db8::/64", dhcp_address="2001:db8::2", dhcp_enabled=False, ipv6_ra_mode="slaac"
        ),
    )
    assert serves(network(*subnets)) == [subnets[0], subnets[3]]


def test_addresses_that_dhcp_does_not_serve_have_no_entry() -> None:
    subnets = (
        subnet(),
        subnet(id="off", dhcp_enabled=False),
        subnet(id="auto", ip_version=6, cidr="2001:db8::/64", dhcp_address="2001:db8::2", ipv6_ra_mode="slaac"),
    )
    fixed = (
        FixedIp("s", "10.0.0.5"),
        FixedIp("off", "10.9.0.5"),
        FixedIp("auto", "2001:db8::5"),
        FixedIp("?", "1.2.3.4"),
    )
    port = PortSpec(id=PORTS[0], network_id=NETWORK, mac_address="fa:16:3e:00:00:01", fixed_ips=fixed)
    assert host_lines(PlumbedPort("s", "a\nb", port), network(*subnets)) == ("fa:16:3e:00:00:01,10.0.0.5,a-b",)


@pytest.mark.parametrize(
    "bad",
    [
        network(subnet(dhcp_address="192.0.2.1")),
        network(subnet(gateway_ip="10.0.0.1\ndhcp-script=/bin/sh")),
        network(subnet(dns_nameservers=("x",))),
        network(subnet(), dns_domain="a\nb"),
        network(subnet(ip_version=6, cidr="2001:db8::/64", dhcp_address="2001:db8::2", ipv6_ra_mode="x")),
        # Kernel and dnsmasq refuse it, which once was tried again for ever, with whoever else was in the batch.
        network(subnet(ip_version=6, cidr="2001:db8::/64", dhcp_address="2001:db8::2"), mtu=1_279),
    ],
)
def test_nothing_unchecked_is_written(bad: NetworkSpec) -> None:
    with pytest.raises(Invalid):
        config_text(bad, ServerFiles(Path("/x")), NetworkSettings(state_dir=Path("/x")))


def test_a_release_by_rfc_2131() -> None:
    packet = release_packet("fa:16:3e:00:00:01", "10.0.0.5", "10.0.0.2", 7)
    assert len(packet) == 236 + 4 + 3 + 6 + 1
    assert packet[:4] == bytes((1, 1, 6, 0))
    assert struct.unpack_from("!I", packet, 4) == (7,)
    assert packet[12:16] == bytes((10, 0, 0, 5))
    assert packet[28:34].hex(":") == "fa:16:3e:00:00:01"
    assert packet[240:] == bytes((53, 1, 7, 54, 4, 10, 0, 0, 2, 255))


@pytest.mark.parametrize("name", ['a"b', "a #b", "a\nuser=nobody"])
def test_a_folder_that_dnsmasq_would_read_as_something_else_is_refused(name: str) -> None:
    files = ServerFiles(Path("/clouds") / name)
    with pytest.raises(Invalid, match="data directory"):
        config_text(network(subnet()), files, NetworkSettings(state_dir=Path("/clouds")))
