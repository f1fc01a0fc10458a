"""Networks that span hosts: VXLAN tunnels between real bridges of several hosts, with guests behind real interfaces."""

import socket
import struct
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import host_network_lab as lab_kit
import pytest
from host_network_lab import MOMENT_S, PATIENCE_S, network, plumbed, port
from msgspec import structs
from underlay import Host, Underlay, joined

from muster.base.errors import Conflict
from muster.domain.specs import RuleSpec, SecurityGroupSpec
from muster.host.names import bridge_name, tunnel_name
from muster.host.network import LinuxPlumbing

pytestmark = [pytest.mark.system, pytest.mark.root]

GROUP, OTHER = str(uuid.uuid4()), str(uuid.uuid4())


def rule(direction: str, **more: object) -> RuleSpec:
    return RuleSpec(id=str(uuid.uuid4()), direction=direction, **{"ethertype": "IPv4"} | more)  # type: ignore[arg-type]


def group(*rules: RuleSpec, group_id: str = GROUP, **more: object) -> SecurityGroupSpec:
    return SecurityGroupSpec(id=group_id, generation=1, rules=rules, **more)  # type: ignore[arg-type]


OPEN = group(rule("egress"), rule("egress", ethertype="IPv6"), rule("ingress"), rule("ingress", ethertype="IPv6"))


@pytest.fixture
def underlay(tmp_path: Path) -> Iterator[Underlay]:
    """Its hosts end their DHCP servers by files in the test's folder, which goes after them."""
    underlay = Underlay()
    try:
        yield underlay
    finally:
        underlay.remove()


@pytest.fixture
def two(underlay: Underlay, tmp_path: Path) -> tuple[Host, Host]:
    return underlay.host(tmp_path), underlay.host(tmp_path)


def test_guests_of_one_network_reach_each_other_across_hosts(two: tuple[Host, Host]) -> None:
    a, b = two
    net = joined(network(), a, b)
    specs = [port(net, number, groups=(GROUP,)) for number in (11, 12, 13)]
    [one] = a.plumb([net], specs[:1], [OPEN])
    other, third = b.plumb([net], specs[1:], [OPEN])
    assert one.ping(other.address)
    assert other.ping(one.address)
    assert third.ping(one.address)
    assert other.ping(third.address)
    assert one.ping(lab_kit.link_local(other.mac) + "%eth0")
    with other.listen(80):
        assert one.reaches(other.address, 80)


def test_a_full_sized_packet_passes_and_is_not_cut_in_pieces(two: tuple[Host, Host], underlay: Underlay) -> None:
    """1,450 bytes inside are 1,500 outside: what an underlay with the usual MTU carries."""
    a, b = two
    net = structs.replace(joined(network(), a, b), mtu=1450)
    specs = [port(net, number, groups=(GROUP,)) for number in (11, 12)]
    [one], [other] = a.plumb([net], specs[:1], [OPEN]), b.plumb([net], specs[1:], [OPEN])
    for guest in (one, other):
        lab_kit.sh(f"ip -n {guest.ns.name} link set eth0 mtu 1450")
    assert one.ping(other.address)
    with underlay.sniff() as frames:
        one.ns.sh(f"ping -c 1 -W 60 -M do -s {1450 - 28} {other.address}")

        def sizes(got: list[tuple[str, bytes]]) -> list[int]:
            return [struct.unpack("!H", frame[16:18])[0] for _, frame in got if frame[12:14] == b"\x08\x00"]

        found = sizes(frames(lambda got: len(sizes(got)) >= 2))
    assert found == [1450, 1450]


def test_networks_with_the_same_subnet_stay_apart(two: tuple[Host, Host]) -> None:
    a, b = two
    nets = [joined(network(number), a, b) for number in (1, 2)]
    on_a = a.plumb(nets, [port(net, 11, groups=(GROUP,)) for net in nets], [OPEN])
    on_b = b.plumb(nets, [port(net, 12, groups=(GROUP,)) for net in nets], [OPEN])
    with on_b[0].sniff() as first, on_b[1].sniff() as second:
        assert on_a[0].ping("10.80.0.12")
        heard = first(0.2, lambda got: any(frame[6:12] == on_a[0].mac for frame in got))
        assert any(frame[6:12] == on_a[0].mac for frame in heard)
        assert not any(frame[6:12] == on_a[0].mac for frame in second(0))
    assert on_a[1].ping("10.80.0.12")
    # Only the right one answers: the other's guest is taken away.
    lab_kit.sh(f"ip -n {on_b[1].ns.name} link set eth0 down")
    assert on_a[0].ping("10.80.0.12")
    assert not on_a[1].ping("10.80.0.12", 1)


def test_security_groups_hold_across_hosts(two: tuple[Host, Host]) -> None:
    """Rules at the receiver's tap: by port, and by the group of who sends."""
    a, b = two
    net = joined(network(), a, b)
    out = rule("egress")
    web = group(out, rule("ingress", protocol="tcp", port_min=80, port_max=80, remote_group_id=OTHER))
    client = group(out, group_id=OTHER, member_generation=1, members=("10.80.0.11",))
    friend, stranger = port(net, 11, groups=(OTHER,)), port(net, 13, groups=())
    server = port(net, 12, groups=(GROUP,))
    stranger = structs.replace(stranger, security_group_ids=(GROUP,))
    [one, two_] = a.plumb([net], [friend, stranger], [web, client])
    [served] = b.plumb([net], [server], [web, client])
    with served.listen(80), served.listen(81):
        assert one.reaches(served.address, 80)  # its answers come back to a group without any ingress rule
        assert not one.reaches(served.address, 81, MOMENT_S)
        assert not two_.reaches(served.address, 80, MOMENT_S)
        assert not one.ping(served.address, MOMENT_S)
        # Who leaves the group is shut out, also in a connection that stands.
        standing = one.connect(served.address, 80)
        assert standing is not None
        standing.settimeout(PATIENCE_S)
        standing.sendall(b"x")
        assert standing.recv(1) == b"x"
        left = structs.replace(client, member_generation=2, members=())
        b.run(lambda plumbing: plumbing.firewall([plumbed(server)], [web, left]))
        standing.settimeout(MOMENT_S)
        standing.sendall(b"y")
        with pytest.raises(TimeoutError):
            standing.recv(1)
        standing.close()


def test_a_guest_cannot_pass_for_another_across_hosts(two: tuple[Host, Host]) -> None:
    a, b = two
    net = joined(network(), a, b)
    [one] = a.plumb([net], [port(net, 11, groups=(GROUP,))], [OPEN])
    [other] = b.plumb([net], [port(net, 12, groups=(GROUP,))], [OPEN])
    assert one.ping(other.address)
    with other.sniff() as frames:
        one.send(lab_kit.arp_frame(one.mac, one.mac, "10.80.0.99", other.address))
        one.send(lab_kit.arp_frame(b"\x02" * 6, b"\x02" * 6, one.address, other.address))
        one.send(lab_kit.udp_frame(one.mac, "10.80.0.99", "10.80.0.12", (9, 9), b"x"))
        one.send(lab_kit.arp_frame(one.mac, one.mac, one.address, other.address))
        mine = socket.inet_aton(one.address)
        heard = frames(0.5, lambda got: any(frame[28:32] == mine for frame in got))
    assert [frame[28:32] for frame in heard if frame[12:14] == b"\x08\x06"] == [mine]
    assert not any(frame[12:14] == b"\x08\x00" for frame in heard)


def test_dhcp_stays_on_its_host(two: tuple[Host, Host], underlay: Underlay) -> None:
    """The same address serves on both hosts, and each guest hears its own host's only."""
    a, b = two
    net = joined(network(), a, b)
    [one] = a.plumb([net], [port(net, 11, groups=(GROUP,))], [OPEN])
    [other, free] = b.plumb([net], [port(net, 12, groups=(GROUP,)), port(net, 13, port_security_enabled=False)], [OPEN])
    assert one.ping(other.address)
    with underlay.sniff() as frames, other.sniff() as heard:
        lease = one.dhcp()
        assert lease is not None
        assert lease["ip"] == "10.80.0.11"
        assert one.renew(one.address, "10.80.0.2") == 5
        inside = [frame for _, frame in frames()]
        left = [frame[:60].hex(" ") for frame in inside if frame[12:14] == b"\x08\x00" and frame[23] == 17]
        assert not left, "DHCP left the host"
        assert not any(frame[23:24] == b"\x11" and frame[36:38] == b"\x00\x43" for frame in heard(0))
    # Nor does somebody who serves without port security reach another host's guests.
    with one.sniff() as heard:
        free.send(lab_kit.udp_frame(free.mac, "10.80.0.13", "255.255.255.255", (67, 68), b"x"))
        free.send(lab_kit.udp_frame(free.mac, "10.80.0.13", "255.255.255.255", (9, 9), b"x"))
        assert udp_ports(heard(0.5, lambda got: bool(udp_ports(got)))) == ["00090009"]
    # Nor would it if that host let it out.
    with one.sniff() as heard:
        for ports in ((67, 68), (9, 9)):
            b.send_inside(net, a.address, lab_kit.udp_frame(free.mac, "10.80.0.13", "255.255.255.255", ports, b"x"))
        assert udp_ports(heard(0.5, lambda got: bool(udp_ports(got)))) == ["00090009"]


def test_what_a_host_says_itself_stays_on_it(two: tuple[Host, Host], underlay: Underlay) -> None:
    """Both bridges have the same MAC and addresses: neither asks, answers nor advertises through the tunnel."""
    a, b = two
    net = joined(network(), a, b)
    [one], [other] = (
        host.plumb([net], [port(net, number, groups=(GROUP,))], [OPEN]) for host, number in ((a, 11), (b, 12))
    )
    with underlay.sniff() as frames, a.sniff_bridge(net) as heard:
        assert one.ping("10.80.0.2")
        assert other.ping("10.80.0.2")
        assert one.ping(other.address)
        bridge = bridge_name(net.id)
        assert a.host.run(lambda: lab_kit.ping(one.address))
        assert not a.host.run(lambda: lab_kit.ping(other.address, 1))
        mac = bytes.fromhex(a.host.sh(f"cat /sys/class/net/{bridge}/address").strip().replace(":", ""))
        inside = [frame for _, frame in frames(bool)]
        others = {frame[6:12] for frame in heard(lambda got: any(frame[6:12] == one.mac for frame in got))}
    assert inside
    assert not any(frame[6:12] == mac for frame in inside)
    assert one.mac in others
    assert other.mac not in others


def test_frames_for_everybody_go_to_the_networks_hosts_only(underlay: Underlay, tmp_path: Path) -> None:
    a, b, c = (underlay.host(tmp_path) for _ in range(3))
    net = network()
    wide, narrow = joined(net, a, b, c), joined(net, a, b)
    [one] = a.plumb([narrow], [port(net, 11, groups=(GROUP,))], [OPEN])
    [two_] = b.plumb([narrow], [port(net, 12, groups=(GROUP,))], [OPEN])
    with underlay.sniff() as frames:
        one.send(lab_kit.arp_frame(one.mac, one.mac, one.address, "10.80.0.200", 1))

        def told(got: list[tuple[str, bytes]]) -> set[str]:
            return {to for to, frame in got if frame[:6] == lab_kit.BROADCAST}

        assert told(frames(lambda got: bool(told(got)))) == {b.address}
    # A third host comes, while traffic flows.
    with steady_ping(one, two_) as lost:
        [three] = c.plumb([wide], [port(net, 13, groups=(GROUP,))], [OPEN])
        for host in (a, b):
            host.tell(wide)
        assert a.peers(tunnel_name(net.id)) == {b.address, c.address}
        assert one.ping(three.address)
        assert three.ping(two_.address)
        # It leaves, as its guest does: nothing is sent there any more, though that guest's address was learned.
        lab_kit.sh(f"ip -n {three.ns.name} link set eth0 down")
        gone = joined(net, a, b, generation=2)
        for host in (a, b):
            host.tell(gone)
        with underlay.sniff() as frames:
            assert not one.ping(three.address, 1)
            assert c.address not in {to for to, _ in frames()}
    assert lost() == 0
    assert a.peers(tunnel_name(net.id)) == {b.address}


def test_a_host_that_moves_to_another_address_is_followed(two: tuple[Host, Host]) -> None:
    a, b = two
    net = joined(network(), a, b)
    [one], [other] = (
        host.plumb([net], [port(net, number, groups=(GROUP,))], [OPEN]) for host, number in ((a, 11), (b, 12))
    )
    assert one.ping(other.address)
    lab_kit.sh(f"ip -n {b.host.name} addr del {b.address}/24 dev under0")
    lab_kit.sh(f"ip -n {b.host.name} addr add 192.0.2.77/24 dev under0")
    b.address = "192.0.2.77"
    b.settings = structs.replace(b.settings, tunnel_address=b.address)
    moved = joined(net, a, b, generation=2)
    a.tell(moved)
    b.tell(moved)
    assert one.ping(other.address)
    assert other.ping(one.address)


def test_a_fresh_agent_takes_tunnels_up_and_removes_what_is_over(two: tuple[Host, Host]) -> None:
    a, b = two
    net = joined(network(), a, b)
    spec = port(net, 11, groups=(GROUP,))
    a.plumb([net], [spec], [OPEN])
    tunnel = tunnel_name(net.id)
    lab_kit.sh(f"bridge -n {a.host.name} fdb append 00:00:00:00:00:00 dev {tunnel} dst 192.0.2.99")

    async def again(plumbing: LinuxPlumbing) -> None:
        await plumbing.sweep([net], [plumbed(spec)])
        await plumbing.links([net], [plumbed(spec)])

    a.run(again)
    assert a.peers(tunnel) == {b.address}
    a.run(again, structs.replace(a.settings, tunnel_address=None))
    assert tunnel not in a.host.sh("ip -o link show")
    a.run(again)
    assert a.peers(tunnel) == {b.address}
    a.run(lambda plumbing: plumbing.sweep([], []))
    assert "vxl" not in a.host.sh("ip -o link show")
    assert "vxl" not in a.host.sh("nft list ruleset")


def test_a_host_without_an_address_for_it_has_no_tunnel(two: tuple[Host, Host]) -> None:
    a, _ = two
    net = joined(network(), a)
    a.settings = structs.replace(a.settings, tunnel_address=None)
    a.plumb([net], [port(net, 11, groups=(GROUP,))], [OPEN])
    assert "vxlan" not in a.host.sh("ip -o -d link show")


def test_the_tunnel_listens_on_its_own_address_only(two: tuple[Host, Host]) -> None:
    a, b = two
    net = joined(network(), a, b)
    [one] = a.plumb([net], [port(net, 11, groups=(GROUP,))], [OPEN])
    lab_kit.sh(f"ip -n {a.host.name} addr add 192.0.2.101/24 dev under0")
    frame = lab_kit.arp_frame(b"\x02" * 6, b"\x02" * 6, "10.80.0.50", one.address, 1)
    with one.sniff() as heard:
        b.send_inside(net, "192.0.2.101", frame)
        assert heard(0.5) == []
        b.send_inside(net, a.address, frame)

        def theirs(got: list[bytes]) -> bool:
            return any(frame[6:12] == b"\x02" * 6 for frame in got)

        assert theirs(heard(0.3, theirs))


def test_a_foreign_tunnel_with_the_same_segment_is_told_and_left_alone(two: tuple[Host, Host]) -> None:
    a, b = two
    net = joined(network(5), a, b)
    lab_kit.sh(f"ip -n {a.host.name} link add theirs type vxlan id 5 local {a.address} dstport 4789")
    with pytest.raises(Conflict, match="VXLAN identifier 5"):
        a.run(lambda plumbing: plumbing.links([net], []))
    a.run(lambda plumbing: plumbing.sweep([], []))
    assert "theirs" in a.host.sh("ip -o link show")


def udp_ports(frames: list[bytes]) -> list[str]:
    return [frame[34:38].hex() for frame in frames if frame[23:24] == b"\x11"]


class steady_ping:  # noqa: N801 - reads as what it does
    """Pings go from one guest to another all the time; gives how many were lost."""

    def __init__(self, one: lab_kit.Guest, other: lab_kit.Guest) -> None:
        self._one, self._other = one, other
        self._stop = threading.Event()
        self._lost = self._sent = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._sent += 1
            self._lost += not self._one.ping(self._other.address, again_s=PATIENCE_S)
            time.sleep(0.02)

    def __enter__(self):
        self._thread.start()
        return self._count

    def _count(self) -> int:
        until = time.monotonic() + PATIENCE_S
        while self._sent <= 3:  # else nothing is proven
            assert time.monotonic() < until
            time.sleep(0.02)
        return self._lost

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(120)
