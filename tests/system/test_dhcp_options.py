"""What a port's user wants its guest told by DHCP reaches that guest, and no other; against the real dnsmasq."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from host_network_lab import Guest, Lab, network, plumbed, port
from msgspec.structs import replace

from muster.domain.specs import DhcpOption, FixedIp, NetworkSpec, PortSpec
from muster.host.network import LinuxPlumbing

pytestmark = [pytest.mark.system, pytest.mark.root]

OPTIONS = (
    DhcpOption("tftp-server", "10.80.0.9"),
    DhcpOption("67", "pxelinux.0, # with a comma"),
    DhcpOption("server-ip-address", "10.80.0.77"),
    DhcpOption("tftp-server-address", "10.80.0.9,10.80.0.10"),
    DhcpOption("dns-server", "9.9.9.9"),
    DhcpOption("210", "/boot/10.0.0.1/24,10.0.0.1"),  # RFC 5071
    DhcpOption("252", "http://10.80.0.9/wpad.dat"),
    DhcpOption("tzdb-timezone", "Europe/Berlin"),
    DhcpOption("ipv6-only", "1800"),
    DhcpOption("sip-server", "10.80.0.9"),
    DhcpOption("router", " "),
    # None of these can be given; each of them in dnsmasq's configuration would keep it from starting, or worse.
    DhcpOption("no-such-option", "x"),
    DhcpOption("mtu", "many"),
    DhcpOption("netbios-ns", "10.80.0.9\nport=53"),
    DhcpOption("53\nport=53", "1"),
)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path / "state")
    yield lab
    lab.remove()


async def plumb(plumbing: LinuxPlumbing, net: NetworkSpec, ports: list[PortSpec]) -> None:
    items = [plumbed(spec) for spec in ports]
    await plumbing.links([net], items)
    await asyncio.gather(plumbing.firewall(items, []), plumbing.dhcp([net], items))


def told(guest: Guest) -> dict[Any, Any]:
    lease = guest.dhcp()
    assert lease is not None
    texts = {
        key: lease[key].rstrip(b"\0") for key in (66, 67, 101, 210, 252) if key in lease
    }  # dnsmasq ends them as C does
    keys: tuple[Any, ...] = (3, 6, 66, 67, 101, 108, 120, 150, 210, 252, "next")
    return {key: texts.get(key, lease.get(key)) for key in keys}


def test_options_reach_their_port_alone_and_go_with_it(lab: Lab) -> None:
    net = network(dns_nameservers=("8.8.8.8",))
    ports = [port(net, 11, dhcp_options=OPTIONS), port(net, 12)]
    one, other = (lab.guest(spec) for spec in ports)
    lab.run(lambda plumbing: plumb(plumbing, net, ports))
    subnets: dict[Any, Any] = {
        **dict.fromkeys((66, 67, 101, 108, 120, 150, 210, 252)),
        3: socket.inet_aton("10.80.0.1"),
        6: socket.inet_aton("8.8.8.8"),
    }
    own: dict[Any, Any] = {
        3: None,
        6: socket.inet_aton("9.9.9.9"),
        66: b"10.80.0.9",
        67: b"pxelinux.0, # with a comma",
        101: b"Europe/Berlin",
        108: (1_800).to_bytes(4, "big"),
        120: b"\x01" + socket.inet_aton("10.80.0.9"),  # RFC 3361: not names but addresses
        150: socket.inet_aton("10.80.0.9") + socket.inet_aton("10.80.0.10"),
        210: b"/boot/10.0.0.1/24,10.0.0.1",
        252: b"http://10.80.0.9/wpad.dat",
        "next": "10.80.0.77",
    }
    assert told(one) == own
    plain = told(other)
    assert plain == {**subnets, "next": "10.80.0.2"}

    changed = [replace(ports[0], dhcp_options=(DhcpOption("bootfile-name", "other"),)), ports[1]]

    async def change(plumbing: LinuxPlumbing) -> None:
        await plumbing.sweep([net], [plumbed(spec) for spec in ports])  # as an agent that starts anew
        await plumb(plumbing, net, changed[:1])

    lab.run(change)
    assert told(one) == {**plain, 67: b"other"}

    async def go(plumbing: LinuxPlumbing) -> None:
        await plumbing.sweep([net], [plumbed(spec) for spec in changed])
        await plumbing.unplug([changed[0].id])
        again = replace(changed[0], id=ports[1].id.replace(ports[1].id[:4], "abcd"), dhcp_options=())
        await plumb(plumbing, net, [again])  # somebody else's, with the same MAC

    config = lab.settings.state_dir / "dhcp" / net.id / "conf"
    assert "dhcp-mac" in config.read_text()
    lab.run(go)
    assert "dhcp-mac" not in config.read_text()


def test_a_server_without_new_options_is_not_started_anew(lab: Lab) -> None:
    net = network()
    ports = [port(net, number, dhcp_options=(DhcpOption("bootfile-name", "x"),)) for number in (11, 12)]
    pid = lab.settings.state_dir / "dhcp" / net.id / "pid"

    async def scenario(plumbing: LinuxPlumbing) -> list[str]:
        await plumb(plumbing, net, ports)
        pids = [pid.read_text()]
        await plumb(plumbing, net, [port(net, 13)])
        pids.append(pid.read_text())
        await plumbing.sweep([net], [plumbed(spec) for spec in reversed(ports)])
        return [*pids, pid.read_text()]

    assert len(set(lab.run(scenario))) == 1


def test_options_of_dhcpv6(lab: Lab) -> None:
    net = network(
        1, "2001:db8::/64", "2001:db8::2", ipv6_address_mode="dhcpv6-stateful", ipv6_ra_mode="dhcpv6-stateful"
    )
    fixed = [(FixedIp(net.subnets[0].id, f"2001:db8::{number}"),) for number in (11, 12)]
    options = (
        DhcpOption("dns-server", "2001:db8::53", 6),
        DhcpOption("bootfile-url", "tftp://[2001:db8::1]/x", 6),
        DhcpOption("tzdb-timezone", "Europe/Berlin", 6),
    )
    ports = [port(net, 11, fixed_ips=fixed[0], dhcp_options=options), port(net, 12, fixed_ips=fixed[1])]
    one, other = (lab.guest(spec) for spec in ports)
    lab.run(lambda plumbing: plumb(plumbing, net, ports))
    answer, plain = one.dhcp6_options(), other.dhcp6_options()
    assert answer is not None
    assert plain is not None
    assert (answer["ip"], answer.get(23)) == ("2001:db8::11", socket.inet_pton(socket.AF_INET6, "2001:db8::53"))
    assert answer.get(59) == b"tftp://[2001:db8::1]/x"
    assert answer.get(42) == b"Europe/Berlin"
    assert (plain.get(23), plain.get(42), plain.get(59)) == (None, None, None)
