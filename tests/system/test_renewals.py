"""Renewals by unicast on a real kernel and dnsmasq: many networks at once, after restarts, beside a rogue server."""

import asyncio
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_network_lab import PATIENCE_S, Lab, kill, network, plumbed, port

from benchmarks.apart import apart
from benchmarks.dhcp_host import Measured, Order, Way
from muster.domain.specs import RuleSpec, SecurityGroupSpec
from muster.host.network import LinuxPlumbing

pytestmark = [pytest.mark.system, pytest.mark.root]

ACK = 5
GROUP = str(uuid.uuid4())


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path / "state")
    yield lab
    lab.remove()


async def test_on_twenty_networks_with_the_same_subnet_each_guest_renews_with_its_own_server() -> None:
    order = Order(way=Way.AGENT, networks=20, guests=3, window=60, at_once=False)
    found = await apart("benchmarks.dhcp_host", order, Measured, limit_s=300)
    for phase in (found.lease, found.renew):
        assert (phase.work.done, phase.work.addresses, phase.work.wrong) == (60, 60, 0)
    assert found.pinged == 60


def test_leases_outlive_dhcp_servers_and_the_agent(lab: Lab) -> None:
    """The next agent starts the dead servers; a guest that only renews never notices."""
    nets = [network(number) for number in range(2)]
    ports = [port(net, 11) for net in nets]
    guests = [lab.guest(spec) for spec in ports]
    items = [plumbed(spec) for spec in ports]

    async def plumb(plumbing: LinuxPlumbing) -> None:
        await plumbing.links(nets, items)
        await asyncio.gather(plumbing.firewall(items, []), plumbing.dhcp(nets, items))

    lab.run(plumb)
    for guest in guests:
        lease = guest.dhcp()
        assert lease is not None
        guest.use(lease["ip"] + "/24")
    pids = [int((lab.settings.state_dir / "dhcp" / net.id / "pid").read_text()) for net in nets]
    assert [guest.renew(guest.address, "10.80.0.2") for guest in guests] == [ACK, ACK], "while no agent runs"
    kill(pids[0])
    lab.run(lambda plumbing: plumbing.sweep(nets, items))
    assert [guest.renew(guest.address, "10.80.0.2") for guest in guests] == [ACK, ACK]
    assert int((lab.settings.state_dir / "dhcp" / nets[1].id / "pid").read_text()) == pids[1]


@pytest.mark.parametrize("trusted", [False, True])
def test_a_dhcp_server_in_a_guest_reaches_nobody_unless_its_port_is_trusted(lab: Lab, trusted: bool) -> None:
    """A network without DHCP of its own, so that the rogue hears every request; trusted, it shows that it works."""
    net = network(dhcp_enabled=False)
    ports = [port(net, 11, groups=(GROUP,), port_security_enabled=not trusted), port(net, 12, groups=(GROUP,))]
    rules = tuple(RuleSpec(id=way, direction=way, ethertype="IPv4") for way in ("ingress", "egress"))
    rogue, victim = (lab.guest(spec) for spec in ports)
    items = [plumbed(spec) for spec in ports]

    async def plumb(plumbing: LinuxPlumbing) -> None:
        await plumbing.links([net], items)
        await plumbing.firewall(items, [SecurityGroupSpec(id=GROUP, generation=1, rules=rules)])

    lab.run(plumb)
    rogue.use("10.80.0.11/24")
    options = ["--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=eth0", "--leasefile-ro", "--no-ping"]
    command = ["dnsmasq", *options, "--dhcp-authoritative", "--dhcp-range=10.80.0.100,10.80.0.110,3600"]
    server = subprocess.Popen(["ip", "netns", "exec", rogue.ns.name, *command], stderr=subprocess.PIPE)
    try:
        assert server.stderr is not None
        while b"DHCP, IP range" not in server.stderr.readline():
            assert server.poll() is None
        with rogue.sniff() as frames:
            lease = victim.dhcp(PATIENCE_S if trusted else 1.5)

            def heard(got: list[bytes]) -> bool:
                return any(frame[36:38] == b"\x00\x43" for frame in got)

            assert heard(frames(0.1, heard)), "the rogue heard the request"
    finally:
        server.kill()
        server.communicate(timeout=300)
    assert (lease is not None) is trusted
