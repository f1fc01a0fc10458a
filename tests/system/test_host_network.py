"""The host's networking on a real kernel, with a real dnsmasq and guests behind real interfaces."""

import asyncio
import contextlib
import errno
import os
import re
import signal
import socket
import struct
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import host_network_lab as lab_kit
import pytest
from host_network_lab import MOMENT_S, PATIENCE_S, Guest, Lab, network, plumbed, port
from msgspec import structs

from muster.base.errors import Conflict, Invalid, Transient
from muster.domain.messages import Desired
from muster.domain.specs import (
    AddressPair,
    FixedIp,
    GroupMembers,
    HostRoute,
    NetworkSpec,
    PortSpec,
    RuleSpec,
    SecurityGroupSpec,
)
from muster.host.desired import DesiredState
from muster.host.names import bridge_name, tap_name
from muster.host.network import Conntrack, LinuxPlumbing, dhcp_server
from muster.host.network.nft import NftFailed

pytestmark = [pytest.mark.system, pytest.mark.root]

GROUP, OTHER = str(uuid.uuid4()), str(uuid.uuid4())


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path / "state")
    yield lab
    lab.remove()


def rule(direction: str, **more: object) -> RuleSpec:
    return RuleSpec(id=str(uuid.uuid4()), direction=direction, **{"ethertype": "IPv4"} | more)  # type: ignore[arg-type]


def group(*rules: RuleSpec, generation: int = 1, group_id: str = GROUP, **more: object) -> SecurityGroupSpec:
    return SecurityGroupSpec(id=group_id, generation=generation, rules=rules, **more)  # type: ignore[arg-type]


def everything_out() -> tuple[RuleSpec, ...]:
    return rule("egress"), rule("egress", ethertype="IPv6")


OPEN = group(*everything_out(), rule("ingress"), rule("ingress", ethertype="IPv6"))


async def plumb(
    plumbing: LinuxPlumbing, nets: Sequence[NetworkSpec], ports: Sequence[PortSpec], groups: Sequence[SecurityGroupSpec]
) -> None:
    items = [plumbed(spec) for spec in ports]
    await plumbing.links(nets, items)
    await asyncio.gather(plumbing.firewall(items, groups), plumbing.dhcp(nets, items))


def two_guests(lab: Lab, groups: Sequence[SecurityGroupSpec], **more: object) -> tuple[NetworkSpec, Guest, Guest]:
    """Two guests of one network in group GROUP, with their addresses."""
    net = network()
    ports = [port(net, number, groups=(GROUP,), **more) for number in (11, 12)]
    guests = [lab.guest(spec) for spec in ports]
    lab.run(lambda plumbing: plumb(plumbing, [net], ports, groups))
    for guest in guests:
        guest.use(guest.port.fixed_ips[0].ip_address + "/24")
    return net, guests[0], guests[1]


def test_a_guest_gets_its_lease_with_all_options(lab: Lab) -> None:
    net = network(
        dns_nameservers=("192.0.2.53", "192.0.2.54"), host_routes=(HostRoute("198.51.100.0/24", "10.80.0.9"),)
    )
    net = NetworkSpec(id=net.id, generation=1, segment_id=1, mtu=1400, dns_domain="example.org.", subnets=net.subnets)
    spec = port(net, 11)
    guest = lab.guest(spec)
    lab.run(lambda plumbing: plumb(plumbing, [net], [spec], []))
    lease = guest.dhcp()
    assert lease is not None
    assert lease["ip"] == "10.80.0.11"
    assert lease[1] == socket.inet_aton("255.255.255.0")
    assert lease[3] == socket.inet_aton("10.80.0.1")
    assert lease[6] == socket.inet_aton("192.0.2.53") + socket.inet_aton("192.0.2.54")
    assert lease[12] == b"guest"
    assert lease[15] == b"example.org"
    assert lease[26] == struct.pack("!H", 1400)
    assert lease[51] == struct.pack("!I", 3600)
    assert lease[54] == socket.inet_aton("10.80.0.2")
    metadata = bytes([32]) + socket.inet_aton("169.254.169.254") + socket.inet_aton("10.80.0.2")
    host_route = bytes([24]) + socket.inet_aton("198.51.100.0")[:3] + socket.inet_aton("10.80.0.9")
    assert lease[121] == metadata + host_route + bytes([0]) + socket.inet_aton("10.80.0.1")


def test_a_network_without_gateway_and_names_offers_none(lab: Lab) -> None:
    net = network(gateway_ip=None)
    spec = port(net, 11)
    guest = lab.guest(spec)
    lab.run(lambda plumbing: plumb(plumbing, [net], [spec], []))
    lease = guest.dhcp()
    assert lease is not None
    assert 3 not in lease
    assert 6 not in lease
    assert lease[121] == bytes([32]) + socket.inet_aton("169.254.169.254") + socket.inet_aton("10.80.0.2")


def test_leases_renew_by_unicast_on_three_networks_with_the_same_subnet(lab: Lab) -> None:
    nets = [network(number) for number in range(3)]
    ports = [port(net, 11 + number) for number, net in enumerate(nets)]
    guests = [lab.guest(spec) for spec in ports]
    lab.run(lambda plumbing: plumb(plumbing, nets, ports, []))
    for number, guest in enumerate(guests):
        lease = guest.dhcp()
        assert lease is not None
        assert lease["ip"] == f"10.80.0.{11 + number}"
        guest.use(lease["ip"] + "/24")
    for guest in (*guests, *reversed(guests)):
        assert guest.renew(guest.address, "10.80.0.2") == 5


def test_only_known_macs_are_answered_and_only_for_themselves(lab: Lab) -> None:
    net = network()
    known, stranger = port(net, 11, port_security_enabled=False), port(net, 12, port_security_enabled=False)
    guests = [lab.guest(known), lab.guest(stranger)]

    async def scenario(plumbing: LinuxPlumbing) -> None:
        await plumbing.links([net], [plumbed(known), plumbed(stranger)])
        await plumbing.firewall([plumbed(known), plumbed(stranger)], [])
        await plumbing.dhcp([net], [plumbed(known)])

    lab.run(scenario)
    assert guests[0].dhcp() is not None
    assert guests[1].dhcp(timeout_s=1) is None


def test_an_address_goes_to_the_next_port_at_once(lab: Lab) -> None:
    """A lease of the former guest, which ended without a word, must not stand in the way."""
    net = network()
    first, second = port(net, 11), port(net, 11)
    one = lab.guest(first)
    lab.run(lambda plumbing: plumb(plumbing, [net], [first], []))
    assert one.dhcp() is not None

    async def unplug(plumbing: LinuxPlumbing) -> None:
        await plumbing.sweep([net], [plumbed(first)])
        await plumbing.unplug([first.id])

    lab.run(unplug)
    assert tap_name(first.id) not in lab.host.sh("ip -o link show")
    two = lab.guest(second)
    lab.run(lambda plumbing: plumb(plumbing, [net], [second], []))
    lease = two.dhcp()
    assert lease is not None
    assert lease["ip"] == "10.80.0.11"


def test_the_same_hostname_twice_and_a_hostile_hostname_harm_nobody(lab: Lab) -> None:
    net = network()
    names = ["same", "same", "../../x,10.80.0.99\ndhcp-script=/bin/sh"]
    ports = [port(net, 11 + number) for number in range(3)]
    guests = [lab.guest(spec) for spec in ports]

    async def scenario(plumbing: LinuxPlumbing) -> None:
        items = [plumbed(spec, name) for spec, name in zip(ports, names, strict=True)]
        await plumbing.links([net], items)
        await plumbing.firewall(items, [])
        await plumbing.dhcp([net], items)

    lab.run(scenario)
    leases = [guest.dhcp() for guest in guests]
    assert [lease and lease["ip"] for lease in leases] == ["10.80.0.11", "10.80.0.12", "10.80.0.13"]
    assert leases[2] is not None
    assert leases[2][12].decode().replace("-", "").isalnum()


def test_leases_are_seen_as_they_are_given(lab: Lab) -> None:
    net = network()
    spec = port(net, 11)
    guest = lab.guest(spec)

    async def scenario(plumbing: LinuxPlumbing) -> None:
        await plumb(plumbing, [net], [spec], [])
        await asyncio.to_thread(guest.dhcp)
        seen = await asyncio.wait_for(anext(plumbing.leases()), PATIENCE_S)
        assert (seen.network_id, seen.port_id) == (net.id, spec.id)
        assert (seen.mac_address, seen.ip_address) == (spec.mac_address, "10.80.0.11")

    lab.run(scenario)

    async def again(plumbing: LinuxPlumbing) -> None:
        """A new agent hears the server that the former one had started."""
        await plumbing.sweep([net], [plumbed(spec)])
        await asyncio.to_thread(guest.dhcp)
        assert (await asyncio.wait_for(anext(plumbing.leases()), PATIENCE_S)).port_id == spec.id

    lab.run(again)


def test_groups_allow_what_they_say_and_nothing_else(lab: Lab) -> None:
    rules = (
        rule("egress"),
        rule("ingress", protocol="tcp", port_min=22, port_max=23),
        rule("ingress", protocol="17", port_min=53, port_max=53),
        rule("ingress", protocol="icmp", port_min=8, port_max=0, remote_ip_prefix="10.80.0.11/32"),
    )
    _, one, two = two_guests(lab, [group(*rules)])
    with two.listen(22), two.listen(23), two.listen(24), one.listen(24):
        assert one.reaches(two.address, 22)
        assert one.reaches(two.address, 23)
        assert not one.reaches(two.address, 24, MOMENT_S)
        assert not two.reaches(one.address, 24, MOMENT_S)
    with lab_kit.udp_echo(two.ns, 53), lab_kit.udp_echo(two.ns, 54):
        assert lab_kit.udp_answers(one.ns, two.address, 53)
        assert not lab_kit.udp_answers(one.ns, two.address, 54, MOMENT_S)
    assert one.ping(two.address)
    assert not two.ping(one.address, MOMENT_S)


def test_egress_is_closed_unless_a_rule_opens_it(lab: Lab) -> None:
    rules = (
        rule("ingress"),
        rule("egress", protocol="tcp", port_min=80, port_max=80, remote_ip_prefix="10.80.0.12/32"),
    )
    _, one, two = two_guests(lab, [group(*rules)])
    with two.listen(80), two.listen(81), one.listen(80):
        assert one.reaches(two.address, 80)
        assert not one.reaches(two.address, 81, MOMENT_S)
        assert not two.reaches(one.address, 80, MOMENT_S)
    assert not one.ping(two.address, MOMENT_S)


def test_without_a_group_nothing_comes_in_but_dhcp(lab: Lab) -> None:
    net = network()
    ports = [port(net, 11), port(net, 12)]
    one, two = (lab.guest(spec) for spec in ports)
    lab.run(lambda plumbing: plumb(plumbing, [net], ports, []))
    assert one.dhcp() is not None
    one.use("10.80.0.11/24")
    two.use("10.80.0.12/24")
    assert not one.ping(two.address, MOMENT_S)
    assert one.renew(one.address, "10.80.0.2") == 5


def test_a_tap_without_rules_carries_nothing(lab: Lab) -> None:
    net = network()
    ports = [port(net, 11, groups=(GROUP,)), port(net, 12, port_security_enabled=False)]
    one, two = (lab.guest(spec) for spec in ports)

    async def scenario(plumbing: LinuxPlumbing) -> None:
        await plumbing.links([net], [plumbed(spec) for spec in ports])

    lab.run(scenario)
    one.use("10.80.0.11/24")
    two.use("10.80.0.12/24")
    with one.sniff() as frames:
        two.send(lab_kit.arp_frame(two.mac, two.mac, "10.80.0.12", "10.80.0.11", 1))
        assert not one.ping(two.address, 0.3)
        assert frames(0.2) == []


def test_a_remote_group_follows_its_members(lab: Lab) -> None:
    inward = group(*everything_out(), rule("ingress", remote_group_id=OTHER))
    _, one, two = two_guests(lab, [inward, group(group_id=OTHER)])
    assert not one.ping(two.address, MOMENT_S)

    def members(generation: int, *addresses: str) -> None:
        async def scenario(plumbing: LinuxPlumbing) -> None:
            await plumbing.firewall([], [group(group_id=OTHER, generation=generation, members=addresses)])

        lab.run(scenario)

    members(2, one.address, "192.0.2.0/24", "192.0.2.128/25")
    assert one.ping(two.address)
    assert not two.ping(one.address, MOMENT_S)
    members(3, two.address)
    assert not one.ping(two.address, MOMENT_S)
    assert two.ping(one.address)
    members(4, "10.80.0.0/25")
    assert one.ping(two.address)


def test_members_that_join_and_leave_one_by_one_are_let_in_and_shut_out(lab: Lab) -> None:
    """As they come by messages: what the agent makes of them is what the firewall does."""
    inward = group(*everything_out(), rule("ingress", remote_group_id=OTHER))
    _, one, two = two_guests(lab, [inward, group(group_id=OTHER)])
    desired = DesiredState()
    others = tuple(f"10.90.{number // 250}.{number % 250 + 1}" for number in range(2_000))
    told = group(group_id=OTHER, generation=2, members=others)

    def hear(seq: int, *groups: SecurityGroupSpec, joined: tuple[str, ...] = (), left: tuple[str, ...] = ()) -> None:
        change = GroupMembers(id=OTHER, generation=seq, joined=joined, left=left)
        changes = desired.apply(
            Desired(host_id="h", from_seq=seq - 1, to_seq=seq, everything=seq == 1, groups=groups, members=(change,))
        )
        assert changes.groups == (OTHER,)

        async def scenario(plumbing: LinuxPlumbing) -> None:
            await plumbing.firewall([], [desired.groups.specs[OTHER]])

        lab.run(scenario)

    hear(1, structs.replace(told, member_generation=0))
    assert not one.ping(two.address, MOMENT_S)
    hear(2, joined=(one.address, "10.91.0.1"))
    assert one.ping(two.address)
    assert not two.ping(one.address, MOMENT_S)
    hear(3, joined=(two.address,), left=(one.address, others[7]))
    assert not one.ping(two.address, MOMENT_S)
    assert two.ping(one.address)


def echoes(connection: socket.socket, timeout_s: float = PATIENCE_S) -> bool:
    """Whether a connection to a server that echoes still carries something, both ways."""
    connection.settimeout(timeout_s)
    with contextlib.suppress(TimeoutError):
        connection.sendall(b"hello")
        return connection.recv(10) == b"hello"
    return False


def test_a_withdrawn_rule_ends_a_living_connection_and_another_change_does_not(lab: Lab) -> None:
    web = rule("ingress", protocol="tcp", port_min=80, port_max=80)
    _, one, two = two_guests(lab, [group(*everything_out(), web)])

    def change(generation: int, *rules: RuleSpec) -> None:
        async def scenario(plumbing: LinuxPlumbing) -> None:
            await plumbing.firewall([], [group(*everything_out(), *rules, generation=generation)])

        lab.run(scenario)

    with two.listen(80):
        connection = one.connect(two.address, 80)
        assert connection is not None
        with connection:
            assert echoes(connection)
            change(2, web, rule("ingress", protocol="udp"))
            assert echoes(connection)
            change(3)
            assert not echoes(connection, MOMENT_S)


def test_connections_end_with_what_let_them_out_or_let_their_guest_in(lab: Lab) -> None:
    """An egress rule, and the membership of a remote group; a connection that something else allows goes on."""
    by_member = rule("ingress", protocol="tcp", port_min=80, port_max=80, remote_group_id=OTHER)
    by_cidr = rule("ingress", protocol="tcp", port_min=81, port_max=82, remote_ip_prefix="10.80.0.8/29")
    out = [rule("egress", protocol="tcp", port_min=low, port_max=high) for low, high in ((80, 81), (82, 82))]
    _, one, two = two_guests(lab, [group(*out, by_member, by_cidr), group(group_id=OTHER, members=("10.80.0.11",))])

    def change(*groups: SecurityGroupSpec) -> None:
        lab.run(lambda plumbing: plumbing.firewall([], groups))

    with two.listen(80), two.listen(81), two.listen(82), contextlib.ExitStack() as opened:
        connections = []
        for number in (80, 81, 82):
            connection = one.connect(two.address, number)
            assert connection is not None
            connections.append(opened.enter_context(connection))
            assert echoes(connection)
        first, second, third = connections
        change(group(group_id=OTHER, generation=2, members=("10.80.0.13",)))
        assert not echoes(first, MOMENT_S)
        assert echoes(second)
        assert echoes(third)
        change(group(out[0], by_member, by_cidr, generation=2))
        assert not echoes(third, MOMENT_S)
        assert echoes(second)


def test_a_cidr_and_a_range_of_ports_let_in_those_inside(lab: Lab) -> None:
    net = network()
    web = rule("ingress", protocol="tcp", port_min=8000, port_max=8010, remote_ip_prefix="10.80.0.8/29")
    ports = [port(net, number, groups=(GROUP,)) for number in (15, 16, 20)]
    inside, outside, server = (lab.guest(spec) for spec in ports)
    lab.run(lambda plumbing: plumb(plumbing, [net], ports, [group(*everything_out(), web)]))
    for guest in (inside, outside, server):
        guest.use(guest.port.fixed_ips[0].ip_address + "/24")
    with contextlib.ExitStack() as listening:
        for number in (7999, 8000, 8010, 8011):
            listening.enter_context(server.listen(number))
        for number in (8000, 8010):
            assert inside.reaches(server.address, number)
        for number in (7999, 8011):
            assert not inside.reaches(server.address, number, MOMENT_S)
        assert not outside.reaches(server.address, 8000, MOMENT_S)


def test_a_stateless_group_does_not_let_answers_pass(lab: Lab) -> None:
    out = (*everything_out(), rule("ingress", protocol="icmp", port_min=8, port_max=0))
    _, one, two = two_guests(lab, [group(*out, stateful=False)])
    assert not one.ping(two.address, MOMENT_S)
    lab.run(lambda plumbing: plumbing.firewall([], [group(*out, generation=2, stateful=True)]))
    assert one.ping(two.address)


def test_forged_senders_are_dropped(lab: Lab) -> None:
    _, one, two = two_guests(lab, [OPEN])
    assert one.ping(two.address)
    other = bytes.fromhex("fa163eabcdef")
    payload = b"forged"
    udp = (7, 7)
    with two.sniff() as frames:
        one.send(lab_kit.udp_frame(other, "10.80.0.11", "10.80.0.12", udp, payload))
        one.send(lab_kit.udp_frame(one.mac, "10.80.0.66", "10.80.0.12", udp, payload))
        one.send(lab_kit.udp_frame(one.mac, "10.80.0.12", "10.80.0.255", udp, payload))
        one.send(lab_kit.arp_frame(one.mac, one.mac, "10.80.0.1", "10.80.0.12"))
        one.send(lab_kit.arp_frame(one.mac, other, "10.80.0.11", "10.80.0.12"))
        one.send(lab_kit.arp_frame(one.mac, other, "0.0.0.0", "10.80.0.12"))
        one.send(b"\xff" * 6 + one.mac + b"\x81\x00\x00\x05\x08\x00" + payload)
        one.send(b"\xff" * 6 + one.mac + b"\x88\xcc" + payload)
        one.send(lab_kit.udp_frame(one.mac, "10.80.0.11", "10.80.0.12", (67, 68), payload))
        assert frames(0.3) == []
        one.send(lab_kit.udp_frame(one.mac, "10.80.0.11", "10.80.0.12", udp, payload))
        one.send(lab_kit.arp_frame(one.mac, one.mac, "10.80.0.11", "10.80.0.12"))
        assert len(frames(0.3, lambda got: len(got) >= 2)) == 2


def test_dhcp_for_somebody_else_is_dropped(lab: Lab) -> None:
    _, one, two = two_guests(lab, [OPEN])
    assert one.dhcp(chaddr=two.mac, timeout_s=1) is None
    assert one.dhcp() is not None


@pytest.mark.parametrize("served", [True, False])
def test_dhcp_requests_are_heard_by_the_hosts_server_alone_where_it_serves(lab: Lab, served: bool) -> None:
    """A tenant's own server hears the guests of its network where Muster's is switched off."""
    net = network(dhcp_enabled=served)
    ports = [port(net, 11), port(net, 12, port_security_enabled=False)]
    one, other = (lab.guest(spec) for spec in ports)
    lab.run(lambda plumbing: plumb(plumbing, [net], ports, []))
    with other.sniff() as frames:
        other.wait_until_joined()
        assert (one.dhcp(PATIENCE_S if served else 1.5) is not None) is served

        def heard(got: list[bytes]) -> bool:
            return any(frame[6:12] == one.mac for frame in got)

        assert heard(frames(0.3, lambda got: served or heard(got))) is not served


def test_dhcp_that_is_switched_off_or_on_is_so_at_once_for_ports_that_were_there_before(lab: Lab) -> None:
    """A server once went on answering, beside a tenant's own, and one that was switched on knew nobody."""
    net = network(dhcp_enabled=False)
    spec = port(net, 11)
    guest = lab.guest(spec)

    async def story(plumbing: LinuxPlumbing) -> list[bool]:
        await plumb(plumbing, [net], [spec], [])
        given = []
        for number, served in enumerate((True, False, True, False), start=2):
            (subnet,) = net.subnets
            changed = structs.replace(net, generation=number, subnets=(structs.replace(subnet, dhcp_enabled=served),))
            await plumbing.links([changed], [])
            await plumbing.dhcp([changed], [])
            got = await asyncio.to_thread(guest.dhcp, PATIENCE_S if served else 1.5)
            given.append(got is not None)
        return given

    assert lab.run(story) == [True, False, True, False]
    assert not list((lab.settings.state_dir / "dhcp").iterdir())


def test_requests_that_come_all_at_once_wait_for_the_server(lab: Lab) -> None:
    """By default a socket holds some 170 of them; the others' guests would ask again seconds later, all at once."""
    net = network()
    spec = port(net, 11)
    guest = lab.guest(spec)
    lab.run(lambda plumbing: plumb(plumbing, [net], [spec], []))
    guest.wait_until_joined()
    server = int((lab.settings.state_dir / "dhcp" / net.id / "pid").read_text())
    os.kill(server, signal.SIGSTOP)
    with guest.sniff() as frames:
        try:
            guest.send(*(lab_kit.discover(guest.mac, number) for number in range(1_000)))
        finally:
            os.kill(server, signal.SIGCONT)

        def offers(got: list[bytes]) -> int:
            return len({frame[46:50] for frame in got if frame[36:38] == b"\x00\x44"})

        assert offers(frames(1, lambda got: offers(got) >= 1_000)) == 1_000


def test_allowed_address_pairs_and_switched_off_port_security(lab: Lab) -> None:
    net = network()
    pairs = (
        AddressPair("10.80.0.50", ""),
        AddressPair("10.80.0.128/25", ""),
        AddressPair("10.80.0.60", "00:00:5e:00:01:07"),
    )
    ports = [port(net, 11, groups=(GROUP,), allowed_address_pairs=pairs), port(net, 12, port_security_enabled=False)]
    one, two = (lab.guest(spec) for spec in ports)
    lab.run(lambda plumbing: plumb(plumbing, [net], ports, [OPEN]))
    one.use("10.80.0.11/24")
    two.use("10.80.0.12/24")
    vrrp = bytes.fromhex("00005e000107")
    udp, payload = (7, 7), b"x"
    with two.sniff() as frames:
        one.send(lab_kit.udp_frame(one.mac, "10.80.0.50", "10.80.0.12", udp, payload))
        one.send(lab_kit.udp_frame(one.mac, "10.80.0.200", "10.80.0.12", udp, payload))
        one.send(lab_kit.arp_frame(one.mac, one.mac, "10.80.0.200", "10.80.0.12"))
        one.send(lab_kit.udp_frame(vrrp, "10.80.0.60", "10.80.0.12", udp, payload))
        assert len(frames(0.3, lambda got: len(got) >= 4)) == 4
        one.send(lab_kit.udp_frame(one.mac, "10.80.0.51", "10.80.0.12", udp, payload))
        one.send(lab_kit.udp_frame(vrrp, "10.80.0.50", "10.80.0.12", udp, payload))
        one.send(lab_kit.arp_frame(one.mac, one.mac, "10.80.0.51", "10.80.0.12"))
        assert frames(0.3) == []
    with one.sniff() as frames:
        two.send(lab_kit.udp_frame(bytes.fromhex("fa163e777777"), "203.0.113.5", "10.80.0.11", udp, payload))
        assert len(frames(0.3, bool)) == 1


def test_guests_of_networks_with_the_same_addresses_do_not_meet(lab: Lab) -> None:
    """The same five-tuples in two networks: a connection of one must not open the other's firewall."""
    nets = [network(number) for number in (1, 2)]
    ports = [port(net, number, groups=(GROUP,)) for net in nets for number in (11, 12)]
    guests = [lab.guest(spec) for spec in ports]
    only_egress = group(*everything_out(), rule("ingress", protocol="udp", port_min=9, port_max=9))
    lab.run(lambda plumbing: plumb(plumbing, nets, ports, [only_egress]))
    for guest, spec in zip(guests, ports, strict=True):
        guest.use(spec.fixed_ips[0].ip_address + "/24")
    # In the first network .12 answers .11 from port 9; in the second the "answer" comes unasked.
    with guests[1].sniff() as asked:
        guests[0].send(lab_kit.udp_frame(guests[0].mac, "10.80.0.11", "10.80.0.12", (5000, 9), b"q"))
        assert any(frame.endswith(b"q") for frame in asked(0.1, lambda got: any(one.endswith(b"q") for one in got)))
    answer = (9, 5000)
    with guests[0].sniff() as first, guests[2].sniff() as second:
        guests[1].send(lab_kit.udp_frame(guests[1].mac, "10.80.0.12", "10.80.0.11", answer, b"a"))
        guests[3].send(lab_kit.udp_frame(guests[3].mac, "10.80.0.12", "10.80.0.11", answer, b"a"))
        assert any(frame.endswith(b"a") for frame in first(0.3, lambda got: any(one.endswith(b"a") for one in got)))
        assert not any(frame.endswith(b"a") for frame in second(0))


def test_guests_reach_few_things_of_the_host(lab: Lab) -> None:
    net, one, _ = two_guests(lab, [OPEN])
    one.ns.sh("ip route add 169.254.169.254 via 10.80.0.2")
    lab.host.sh("ip addr add 192.0.2.1/32 dev lo")
    one.ns.sh("ip route add 192.0.2.1 via 10.80.0.2")
    host = lab.host
    with lab_kit.tcp_echo(host, 22), lab_kit.tcp_echo(host, 80, "169.254.169.254"):
        assert one.reaches("169.254.169.254", 80)
        assert not one.reaches("10.80.0.2", 22, MOMENT_S)
        assert not one.reaches("169.254.169.254", 22, MOMENT_S)
        assert not one.reaches("192.0.2.1", 22, MOMENT_S)
        assert one.ping("10.80.0.2")
        opened = structs.replace(lab.settings, open_tcp_ports=(22,))
        ports = [plumbed(guest.port) for guest in lab.guests]
        lab.run(lambda plumbing: plumbing.sweep([net], ports), opened)
        assert one.reaches("10.80.0.2", 22)


def test_guests_are_not_routed_even_on_a_host_that_forwards(lab: Lab) -> None:
    nets = [network(1), network(2, "10.81.0.0/24", "10.81.0.2")]
    ports = [
        port(nets[0], 11, groups=(GROUP,)),
        port(nets[1], 12, groups=(GROUP,), fixed_ips=(FixedIp("subnet-2", "10.81.0.12"),)),
    ]
    one, two = (lab.guest(spec) for spec in ports)
    lab.run(lambda plumbing: plumb(plumbing, nets, ports, [OPEN]))
    lab.host.sh("sysctl -qw net.ipv4.ip_forward=1")
    one.use("10.80.0.11/24")
    two.use("10.81.0.12/24")
    one.ns.sh("ip route add default via 10.80.0.2")
    two.ns.sh("ip route add default via 10.81.0.2")
    assert not one.ping(two.address, MOMENT_S)
    # The routes are good: an operator who wants routing gets it.
    routed = structs.replace(lab.settings, guests_may_route=True)
    lab.run(lambda plumbing: plumbing.sweep(nets, [plumbed(spec) for spec in ports]), routed)
    assert one.ping(two.address)


def test_groups_also_judge_what_the_host_sends(lab: Lab) -> None:
    rules = (*everything_out(), rule("ingress", protocol="tcp", port_min=22, port_max=22))
    _, one, _ = two_guests(lab, [group(*rules)])
    bridge = bridge_name(one.port.network_id)

    def reaches(number: int, timeout_s: float) -> bool:
        with socket.socket() as client, contextlib.suppress(OSError):
            client.setsockopt(socket.SOL_SOCKET, 25, bridge.encode())
            client.settimeout(timeout_s)
            client.connect((one.address, number))
            client.sendall(b"x")
            return client.recv(5) == b"x"
        return False

    with one.listen(22), one.listen(23):
        assert lab.host.run(lambda: reaches(22, PATIENCE_S))
        assert not lab.host.run(lambda: reaches(23, MOMENT_S))
    assert not lab.host.run(lambda: lab_kit.ping(one.address, 0.5))


def test_ipv6_guests_get_addresses_and_cannot_forge(lab: Lab) -> None:
    nets = [
        network(n, "2001:db8::/64", "2001:db8::2", ipv6_address_mode="dhcpv6-stateful", ipv6_ra_mode="dhcpv6-stateful")
        for n in (1, 2)
    ]
    ports = [
        port(net, number, groups=(GROUP,), fixed_ips=(FixedIp(net.subnets[0].id, f"2001:db8::{number}"),))
        for net in nets
        for number in (11, 12)
    ]
    guests = [lab.guest(spec) for spec in ports]
    lab.run(lambda plumbing: plumb(plumbing, nets, ports, [OPEN]))
    for number, guest in zip((11, 12, 11, 12), guests, strict=True):
        assert guest.dhcp6() == f"2001:db8::{number}"
        guest.use(f"2001:db8::{number}/64")
    assert guests[0].ping("2001:db8::12")
    assert guests[0].ping("2001:db8::2")
    forged = [
        lab_kit.icmp6_frame(guests[0].mac, "2001:db8::66", "ff02::1", 128, bytes(8)),
        lab_kit.icmp6_frame(guests[0].mac, "fe80::66", "ff02::1", 128, bytes(8)),
        lab_kit.icmp6_frame(guests[0].mac, lab_kit.link_local(guests[0].mac), "ff02::1", 134, bytes(16)),
        lab_kit.neighbour_advert(guests[0].mac, "2001:db8::11", "2001:db8::12"),
    ]
    with guests[1].sniff() as frames:
        for frame in forged:
            guests[0].send(frame)
        assert [frame for frame in frames(0.3) if frame[6:12] == guests[0].mac] == []
        guests[0].send(lab_kit.neighbour_advert(guests[0].mac, "2001:db8::11", "2001:db8::11"))

        def sent(got: list[bytes]) -> list[bytes]:
            return [frame for frame in got if frame[6:12] == guests[0].mac]

        assert len(sent(frames(0.3, lambda got: bool(sent(got))))) == 1


def test_a_killed_agent_is_followed_by_one_that_adopts_everything(lab: Lab) -> None:
    net, one, two = two_guests(lab, [OPEN])
    pid = (lab.settings.state_dir / "dhcp" / net.id / "pid").read_text()
    kept = [plumbed(one.port)]

    async def scenario(plumbing: LinuxPlumbing) -> None:
        assert await plumbing.sweep([net], kept) is False, "the other's tap is still open"
        await plumbing.links([net], kept)
        await asyncio.gather(plumbing.firewall(kept, [OPEN]), plumbing.dhcp([net], kept))

    lab.run(scenario)
    assert (lab.settings.state_dir / "dhcp" / net.id / "pid").read_text() == pid
    assert one.dhcp() is not None
    # A tap is not deleted under a guest, but it is shut.
    shut = lab.host.sh(f"ip -o link show {tap_name(two.port.id)}")
    assert "state DOWN" in shut
    assert "master" not in shut
    assert not one.ping(two.address, MOMENT_S)
    two.ns.sh("ip link set eth0 down")

    async def again(plumbing: LinuxPlumbing) -> None:
        assert await plumbing.sweep([net], kept) is True

    lab.run(again)
    interfaces = lab.host.sh("ip -o link show")
    assert tap_name(one.port.id) in interfaces
    assert tap_name(two.port.id) not in interfaces
    rules = lab.host.sh("nft list table bridge muster")
    assert tap_name(one.port.id) in rules
    assert tap_name(two.port.id) not in rules


def test_the_sweep_removes_other_networks_and_spares_what_is_not_musters(lab: Lab) -> None:
    nets = [network(1), network(2)]
    ports = [port(net, 11, groups=(GROUP,)) for net in nets]
    lab.run(lambda plumbing: plumb(plumbing, nets, ports, [OPEN]))
    lab.host.sh("ip tuntap add dev tapforeign mode tap")
    lab.host.sh("ip link add brqforeign type bridge")
    lab.host.sh("nft add table inet foreign")
    pids = [int((lab.settings.state_dir / "dhcp" / net.id / "pid").read_text()) for net in nets]
    lab.run(lambda plumbing: plumbing.sweep(nets[:1], [plumbed(ports[0])]))
    interfaces = lab.host.sh("ip -o link show")
    for name in (tap_name(ports[0].id), bridge_name(nets[0].id), "tapforeign", "brqforeign"):
        assert name in interfaces
    for name in (tap_name(ports[1].id), bridge_name(nets[1].id)):
        assert name not in interfaces
    assert b"--conf-file" in Path(f"/proc/{pids[0]}/cmdline").read_bytes()
    with contextlib.suppress(FileNotFoundError):
        assert Path(f"/proc/{pids[1]}/cmdline").read_bytes() == b""
    assert not (lab.settings.state_dir / "dhcp" / nets[1].id).exists()
    lab.run(lambda plumbing: plumbing.teardown())
    interfaces = lab.host.sh("ip -o link show")
    assert "muster" not in interfaces
    assert "tapforeign" in interfaces
    assert lab.host.sh("nft list tables").split() == ["table", "inet", "foreign"]
    assert list(lab.settings.state_dir.iterdir()) == []
    with contextlib.suppress(FileNotFoundError):
        assert Path(f"/proc/{pids[0]}/cmdline").read_bytes() == b""


def test_a_dead_dhcp_server_and_flushed_rules_come_back(lab: Lab) -> None:
    net, one, two = two_guests(lab, [OPEN])
    pid = int((lab.settings.state_dir / "dhcp" / net.id / "pid").read_text())
    lab_kit.kill(pid)
    lab.host.sh("nft flush ruleset")
    ports = [plumbed(one.port), plumbed(two.port)]

    async def scenario(plumbing: LinuxPlumbing) -> None:
        await plumbing.sweep([net], ports)
        await plumbing.firewall(ports, [OPEN])

    lab.run(scenario)
    assert one.dhcp() is not None
    assert one.ping(two.address)
    assert "secured" in lab.host.sh("nft list table bridge muster")


def test_rules_flushed_behind_the_agents_back_return_with_the_next_batch(lab: Lab) -> None:
    net = network()
    ports = [port(net, number, groups=(GROUP,)) for number in (11, 12)]

    async def flushed_between(plumbing: LinuxPlumbing) -> None:
        await plumb(plumbing, [net], ports[:1], [OPEN])
        await asyncio.to_thread(lab.host.sh, "nft flush ruleset")
        await plumb(plumbing, [net], ports[1:], [])

    lab.run(flushed_between)
    rules = lab.host.sh("nft list table bridge muster")
    for spec in ports:
        assert f'"{tap_name(spec.id)}" : goto i_' in rules


def test_a_foreign_interface_with_the_taps_name_is_a_conflict(lab: Lab) -> None:
    net = network()
    spec = port(net, 11)
    lab.host.sh(f"ip tuntap add dev {tap_name(spec.id)} mode tap")
    with pytest.raises(Conflict):
        lab.run(lambda plumbing: plumbing.links([net], [plumbed(spec)]))
    lab.run(lambda plumbing: plumbing.unplug([spec.id]))
    assert tap_name(spec.id) in lab.host.sh("ip -o link show")


def test_a_bad_value_changes_nothing(lab: Lab) -> None:
    net = network()
    good = port(net, 11)
    lab.run(lambda plumbing: plumb(plumbing, [net], [good], []))
    before = lab.host.sh("nft list ruleset"), sorted((lab.settings.state_dir / "dhcp" / net.id / "hosts").iterdir())
    bad = port(net, 12, mac_address='fa:16:3e:00:00:01"; flush ruleset')
    for step in ("firewall", "dhcp"):

        async def scenario(plumbing: LinuxPlumbing, step: str = step) -> None:
            if step == "firewall":
                await plumbing.firewall([plumbed(port(net, 13)), plumbed(bad)], [])
            await plumbing.dhcp([net], [plumbed(port(net, 13)), plumbed(bad)])

        with pytest.raises(Invalid):
            lab.run(scenario)
    after = lab.host.sh("nft list ruleset"), sorted((lab.settings.state_dir / "dhcp" / net.id / "hosts").iterdir())
    assert after == before


def test_the_rules_for_kernels_that_track_bridged_connections_are_well_formed(lab: Lab) -> None:
    """This kernel may lack the option; then it is the kernel that refuses the rules, not nft's parser."""
    net = network()
    specs = [port(net, number, groups=(GROUP,)) for number in (11, 12)]
    settings = structs.replace(lab.settings, conntrack=Conntrack.BRIDGE)
    try:
        lab.run(lambda plumbing: plumb(plumbing, [net], specs, [OPEN]), settings)
    except NftFailed as failure:
        assert "Could not process rule" in failure.message  # noqa: PT017
        assert "syntax error" not in failure.message  # noqa: PT017
    else:
        assert "ct direction reply accept" in lab.host.sh("nft list table bridge muster")


def test_a_tap_is_what_a_hypervisor_expects(lab: Lab) -> None:
    net = network()
    spec = port(net, 11)
    settings = structs.replace(lab.settings, mtu_max=1300, tap_uid=12345)
    lab.run(lambda plumbing: plumbing.links([net], [plumbed(spec)]), settings)
    shown = lab.host.sh(f"ip -d link show {tap_name(spec.id)}")
    for expected in (
        "tun type tap pi off vnet_hdr on persist on user 12345",
        f"master {bridge_name(net.id)}",
        "mtu 1300",
        "qdisc noqueue",
        "addrgenmode none",
        f"alias muster:port:{spec.id}",
    ):
        assert expected in shown
    bridge = lab.host.sh(f"ip -d addr show {bridge_name(net.id)}")
    for expected in ("forward_delay 0", "stp_state 0", "mcast_snooping 0", "10.80.0.2/24", "169.254.169.254/32"):
        assert expected in bridge
    assert "inet6" not in bridge


def test_everything_twice_is_everything_once(lab: Lab) -> None:
    net = network()
    ports = [port(net, number, groups=(GROUP,)) for number in (11, 12)]

    async def scenario(plumbing: LinuxPlumbing) -> None:
        for _ in range(2):
            await plumb(plumbing, [net], ports, [OPEN])
        for _ in range(2):
            await plumbing.unplug([ports[0].id])

    lab.run(scenario)
    interfaces = lab.host.sh("ip -o link show")
    assert tap_name(ports[0].id) not in interfaces
    assert tap_name(ports[1].id) in interfaces
    hosts = list((lab.settings.state_dir / "dhcp" / net.id / "hosts").iterdir())
    assert [ports[1].id in path.read_text() for path in hosts] == [True]
    assert (lab.settings.state_dir.stat().st_mode & 0o777) == 0o700


def test_removed_ports_are_forgotten_together_and_at_once_where_another_takes_their_place(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network()
    specs = [port(net, number) for number in (11, 12, 13)]
    heir = port(net, 12)
    rewritten: list[int] = []
    replace = dhcp_server.DhcpServer.replace

    def counted(server: dhcp_server.DhcpServer, entries: dhcp_server.Entries) -> None:
        rewritten.append(len(entries))
        replace(server, entries)

    def served() -> str:
        folder = lab.settings.state_dir / "dhcp" / net.id / "hosts"
        return "".join(path.read_text() for path in folder.iterdir())

    async def scenario(plumbing: LinuxPlumbing) -> None:
        await plumb(plumbing, [net], specs, [])
        monkeypatch.setattr(dhcp_server.DhcpServer, "replace", counted)
        await plumbing.unplug([spec.id for spec in specs[:2]])
        one, other = [await asyncio.to_thread(lab.guest, spec) for spec in (specs[0], heir)]
        await plumb(plumbing, [net], specs[:1], [])
        assert rewritten == [], "the same as before"
        assert await asyncio.to_thread(one.dhcp)
        await plumb(plumbing, [net], [heir], [])
        assert rewritten == [3], "somebody else has the address"
        assert (await asyncio.to_thread(other.dhcp) or {})["ip"] == "10.80.0.12"

    async def forgets(plumbing: LinuxPlumbing) -> None:
        await plumbing.sweep([net], [plumbed(spec) for spec in (specs[0], specs[2], heir)])
        await plumbing.unplug([specs[2].id])
        async with asyncio.timeout(300):
            while specs[2].id in served():
                await asyncio.sleep(0.05)

    lab.run(scenario, structs.replace(lab.settings, check_s=600))
    lab.run(forgets, structs.replace(lab.settings, check_s=0.2))
    assert rewritten == [3, 2]


def test_a_dhcp_server_that_dies_is_missed_before_its_leases_run_out(lab: Lab) -> None:
    net = network()
    spec = port(net, 11)
    guest = lab.guest(spec)

    async def scenario(plumbing: LinuxPlumbing) -> None:
        await plumb(plumbing, [net], [spec], [])
        pid_file = lab.settings.state_dir / "dhcp" / net.id / "pid"
        dead = int(pid_file.read_text())
        os.kill(dead, signal.SIGKILL)
        async with asyncio.timeout(300):
            while not pid_file.exists() or int(pid_file.read_text() or dead) == dead:
                await asyncio.sleep(0.05)

    lab.run(scenario, structs.replace(lab.settings, check_s=0.2))
    lease = guest.dhcp()
    assert lease is not None
    assert lease["ip"] == "10.80.0.11"


def test_a_dhcp_server_that_hangs_is_started_anew(lab: Lab) -> None:
    """Nobody would look after it before guests lose their addresses."""
    net = network()
    first, second = port(net, 11), port(net, 12)
    guest = lab.guest(second)
    lab.run(lambda plumbing: plumb(plumbing, [net], [first], []))

    async def scenario(plumbing: LinuxPlumbing) -> None:
        """By an agent that has less patience than a busy machine needs to start a server."""
        await plumb(plumbing, [net], [first], [])
        await plumbing.links([net], [plumbed(second)])
        hangs = int((lab.settings.state_dir / "dhcp" / net.id / "pid").read_text())
        os.kill(hangs, signal.SIGSTOP)
        with pytest.raises(Transient):
            await plumbing.dhcp([net], [plumbed(second)])
        async with asyncio.timeout(300):
            while Path(f"/proc/{hangs}").exists():
                await asyncio.sleep(0.05)
            while True:
                with contextlib.suppress(Transient):
                    await plumbing.dhcp([net], [plumbed(second)])
                    break

    lab.run(scenario, structs.replace(lab.settings, check_s=0.2, dhcp_timeout_s=2.0))
    assert (guest.dhcp() or {})["ip"] == "10.80.0.12"


@pytest.mark.parametrize("what", ["ruleset", "table bridge muster", "table inet muster"])
def test_rules_that_somebody_flushed_return_by_themselves(lab: Lab, what: str) -> None:
    net, one, two = two_guests(lab, [group(*everything_out())])
    assert not one.ping(two.address, MOMENT_S)
    ports = [one.port, two.port]

    def n_rules() -> int:
        return len(re.findall(r"\b(accept|drop|jump|goto|notrack|set)\b", lab.host.sh("nft list ruleset")))

    async def scenario(plumbing: LinuxPlumbing) -> None:
        await plumb(plumbing, [net], ports, [group(*everything_out())])
        before = n_rules()
        await asyncio.to_thread(lab.host.sh, f"nft flush {what}")
        async with asyncio.timeout(300):
            while await asyncio.to_thread(n_rules) != before:
                await asyncio.sleep(0.05)

    lab.run(scenario, structs.replace(lab.settings, check_s=0.2))
    assert not one.ping(two.address, MOMENT_S)


def test_rules_that_somebody_flushed_return_with_a_sweep_that_comes_first(lab: Lab) -> None:
    """The base rules stood again then, so nobody looked further: groups let everything pass from then on."""
    net, one, two = two_guests(lab, [group(*everything_out())])
    ports = [one.port, two.port]

    async def scenario(plumbing: LinuxPlumbing) -> None:
        await plumb(plumbing, [net], ports, [group(*everything_out())])
        await asyncio.to_thread(lab.host.sh, "nft flush table bridge muster")
        await plumbing.sweep([net], [plumbed(port) for port in ports])

    lab.run(scenario)
    assert not one.ping(two.address, MOMENT_S)


def test_a_host_that_is_short_of_something_fails_no_server(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk under the DHCP servers' files: what is asked is put off, and done once there is room."""
    net = network()
    spec = port(net, 11)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def scenario(plumbing: LinuxPlumbing) -> None:
        await plumbing.links([net], [plumbed(spec)])
        with monkeypatch.context() as patch:
            patch.setattr(dhcp_server, "_write", full)
            with pytest.raises(Transient):
                await plumbing.dhcp([net], [plumbed(spec)])
        await plumbing.dhcp([net], [plumbed(spec)])
        assert spec.id in served()
        with monkeypatch.context() as patch:
            patch.setattr(dhcp_server, "_write", full)
            with pytest.raises(Transient):
                await plumbing.unplug([spec.id])
        await plumbing.unplug([spec.id])
        assert spec.id not in served()

    def served() -> str:
        folder = lab.settings.state_dir / "dhcp" / net.id / "hosts"
        return "".join(path.read_text() for path in folder.iterdir())

    lab.run(scenario)


def test_entries_that_nobody_saw_read_are_not_taken_for_served(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    net = network()
    specs = [port(net, number) for number in (11, 12)]
    replaced: list[int] = []
    replace = dhcp_server.DhcpServer.replace

    def counted(server: dhcp_server.DhcpServer, entries: dhcp_server.Entries) -> None:
        replaced.append(len(entries))
        replace(server, entries)

    async def scenario(plumbing: LinuxPlumbing) -> None:
        await plumbing.links([net], [plumbed(spec) for spec in specs])
        await plumbing.dhcp([net], [plumbed(specs[0])])
        monkeypatch.setattr(dhcp_server.DhcpServer, "replace", counted)
        with monkeypatch.context() as patch:
            patch.setattr(dhcp_server.ReadWatch, "wait", lambda *_: False)
            with pytest.raises(Transient):
                await plumbing.dhcp([net], [plumbed(specs[1])])
        await plumbing.dhcp([net], [plumbed(specs[1])])
        await plumbing.dhcp([net], [plumbed(specs[1])])

    lab.run(scenario)
    assert replaced == [2], "once, and only once, all is said and seen read again"
