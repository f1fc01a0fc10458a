"""Two real hosts with real guests: their networks are joined, and one of the hosts is rebooted in every way."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct

from tests.chaos.real_hosts import Cluster, RealGuest, remove_folder, two_hosts
from tests.waiting import eventually

pytestmark = [pytest.mark.chaos, pytest.mark.root, pytest.mark.timeout(900)]

PING = {"protocol": "icmp"}
SSH = {"protocol": "tcp", "port_range_min": 22, "port_range_max": 22}


class Reboot(Struct, frozen=True):
    """What is left of the boot before, and the order in which the host comes up again."""

    links: str
    rules: str
    dhcp: str
    libvirt: str
    boot: str
    order: str

    def __str__(self) -> str:
        return "-".join(f"{name}:{getattr(self, name)}" for name in self.__struct_fields__)


# All left, all gone, what a machine really leaves (files on disk), and between them each pair of two things at least
# once where it can matter.
REBOOTS = (
    Reboot("left", "left", "left", "left", "same", "agent_first"),
    Reboot("gone", "gone", "gone", "gone", "another", "agent_first"),
    Reboot("gone", "gone", "left", "left", "another", "network_late"),
    Reboot("left", "gone", "spoilt", "gone", "another", "libvirt_first"),
    Reboot("torn", "left", "gone", "spoilt", "same", "network_late"),
    Reboot("torn", "gone", "left", "gone", "same", "address_late"),
    Reboot("gone", "left", "spoilt", "spoilt", "same", "agent_first"),
    Reboot("gone", "left", "gone", "left", "another", "libvirt_first"),
    Reboot("left", "left", "left", "spoilt", "another", "address_late"),
    Reboot("torn", "left", "spoilt", "left", "another", "agent_first"),
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="muster-hosts-"))
    try:
        with two_hosts(folder) as cluster:
            yield cluster
    finally:
        remove_folder(folder)


@pytest.fixture(scope="module")
def guests(cluster: Cluster) -> tuple[RealGuest, RealGuest]:
    """A guest on each host, both in a group that lets in ping and ssh."""
    cluster.group("open", PING, SSH)
    one, other = (cluster.guest(name, "open") for name in ("host-1", "host-2"))
    for guest in (one, other):
        guest.reach("true")
    return one, other


@pytest.fixture
def stranger() -> Iterator[int]:
    """A process that nobody may touch."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process.pid
        assert process.poll() is None, "a process that is not Muster's was ended"
        process.kill()


def test_guests_on_two_hosts_reach_each_other(guests: tuple[RealGuest, RealGuest]) -> None:
    one, other = guests
    assert one.host.name != other.host.name
    assert one.pings(other.address)
    assert other.pings(one.address)
    said = one.reach(f"wget -T 5 -qO- http://{other.address}:22 2>&1 | head -1; echo end")
    assert said.endswith("end\n")
    assert one.reach("cat /sys/class/net/eth0/mtu") == "1450\n"
    assert one.reach(f"ping -c 1 -W 3 -s 1422 {other.address} >/dev/null && echo yes") == "yes\n"


def test_security_groups_hold_between_hosts(cluster: Cluster, guests: tuple[RealGuest, RealGuest]) -> None:
    """A group that lets in ping from members of another group only, and a guest that joins that one and leaves it."""
    one, _ = guests
    friends = cluster.group("friends")
    cluster.group("closed", SSH, PING | {"remote_group_id": friends})
    closed = cluster.guest("host-2", "closed")
    closed.reach("true")
    try:
        assert not one.pings(closed.address)
        cluster.ask("POST", f"/compute/v2.1/servers/{one.id}/action", {"addSecurityGroup": {"name": "friends"}})
        eventually("a friend is let in", lambda: one.pings(closed.address))
        cluster.ask("POST", f"/compute/v2.1/servers/{one.id}/action", {"removeSecurityGroup": {"name": "friends"}})
        eventually("a friend no more is not", lambda: not one.pings(closed.address))
    finally:
        cluster.ask("DELETE", f"/compute/v2.1/servers/{closed.id}")


@pytest.mark.parametrize("reboot", REBOOTS, ids=str)
def test_after_a_reboot_the_guest_is_back(guests: tuple[RealGuest, RealGuest], reboot: Reboot, stranger: int) -> None:
    """All processes of the host end at once. Nobody does anything but start the host's services."""
    one, other = guests
    host = one.host
    boot = one.reach("cat /proc/sys/kernel/random/boot_id")
    host.lab.kill(host.name)
    actions = {
        ("links", "gone"): host.lose_links,
        ("links", "torn"): host.tear_links,
        ("rules", "gone"): host.lose_rules,
        ("dhcp", "gone"): host.lose_dhcp,
        ("dhcp", "spoilt"): lambda: host.spoil_dhcp(stranger, one.address),
        ("libvirt", "gone"): host.lose_libvirt,
        ("libvirt", "spoilt"): lambda: host.spoil_libvirt(stranger),
        ("boot", "another"): host.boot_anew,
    }
    for what in reboot.__struct_fields__:
        actions.get((what, getattr(reboot, what)), lambda: None)()
    getattr(host, f"start_{reboot.order}")()
    eventually("the guest answers its host", lambda: host.pings(one.address))
    assert one.reach("cat /proc/sys/kernel/random/boot_id") != boot
    assert f"inet {one.address}/" in one.reach("ip -4 -o address show eth0")
    assert one.cluster.status(one.id) == "ACTIVE"
    assert other.pings(one.address), "not from another host"
    assert one.pings(other.address), "not to another host"
    assert host.stands(one) == []
