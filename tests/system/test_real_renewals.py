"""Real guests on many networks of one host, all with the same subnet: each renews its lease by unicast.

`MUSTER_RENEWAL_GUESTS` is how many, each on a network of its own.
"""

import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("libvirt")

from namespaces import inside
from real_cloud import BOOT_S, RealCloud, real_cloud
from tests.waiting import eventually

from muster.host.names import bridge_name

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.chaos, pytest.mark.timeout(3_000)]

N_GUESTS = int(os.environ.get("MUSTER_RENEWAL_GUESTS", "20"))
LEASE_S = 120  # the shortest that dnsmasq gives; guests renew at half of it
REQUEST, ACK = 3, 5


class Heard:
    """DHCP of all bridges: how often each guest, as (bridge, address), asked by unicast and had its ACK there."""

    def __init__(self) -> None:
        self.renewed: Counter[tuple[str, str]] = Counter()
        self.elsewhere: list[tuple[str, str]] = []
        self._open: dict[bytes, tuple[str, str]] = {}  # transaction, which a guest uses again -> who asked

    def take(self, interface: str, frame: bytes) -> None:
        udp = 14 + 4 * (frame[14] & 15)
        bootp = frame[udp + 8 :]
        is_dhcp = frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[udp : udp + 4] in _PORTS
        if not (is_dhcp and interface.startswith("brq") and bootp[240:242] == b"\x35\x01"):
            return
        transaction, owner, kind = bootp[4:8], socket.inet_ntoa(bootp[12:16]), bootp[242]
        is_unicast = not frame[0] & 1 and frame[30:34] != b"\xff" * 4
        if kind == REQUEST and is_unicast and owner != "0.0.0.0":
            self._open[transaction] = (interface, owner)
        elif kind == ACK and (guest := self._open.pop(transaction, None)):
            self.renewed[guest] += 1
            if interface != guest[0]:
                self.elsewhere.append(guest)


_PORTS = (b"\x00\x43\x00\x44", b"\x00\x44\x00\x43")


@contextmanager
def heard(namespace: str) -> Iterator[Heard]:
    """What the host's bridges carry of DHCP, from here on."""
    found, stop = Heard(), threading.Event()
    raw = inside(namespace, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
    raw.settimeout(0.2)

    def listen() -> None:
        while not stop.is_set():
            try:
                frame, (interface, *_) = raw.recvfrom(2048)
            except TimeoutError:
                continue
            if len(frame) > 282:
                found.take(interface, frame)

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()
        raw.close()


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[RealCloud]:
    with real_cloud(tmp_path / "real", "--lease-s", str(LEASE_S), "--cpu-overcommit", str(N_GUESTS)) as cloud:
        yield cloud


def guest_on_its_own_network(cloud: RealCloud, number: int) -> tuple[str, str]:
    """Ids of a server and of its network."""
    network = cloud.ask("POST", "/network/v2.0/networks", {"network": {"name": f"n{number}"}})["network"]["id"]
    subnet = {"network_id": network, "ip_version": 4, "cidr": "10.77.0.0/24"}
    cloud.ask("POST", "/network/v2.0/subnets", {"subnet": subnet})
    return cloud.create_server(f"guest-{number}", networks=[{"uuid": network}]), network


def test_each_renews_with_the_server_of_its_own_network_also_while_no_agent_runs(cloud: RealCloud) -> None:
    with heard(cloud.namespace) as dhcp:
        made = [guest_on_its_own_network(cloud, number) for number in range(N_GUESTS)]
        guests = set()
        for server_id, network_id in made:
            [addresses] = cloud.becomes(server_id, "ACTIVE")["addresses"].values()
            guests.add((bridge_name(network_id), addresses[0]["addr"]))
        for server_id, _ in made:
            eventually("up", lambda i=server_id: "muster-guest: ready" in cloud.console(i), BOOT_S + 20 * N_GUESTS, 2)
        eventually("a renewal of each", lambda: dhcp.renewed.keys() >= guests, LEASE_S)
        cloud.end(signal.SIGTERM)
        before = dhcp.renewed.copy()
        eventually("another, without an agent", lambda: (dhcp.renewed - before).keys() >= guests, LEASE_S)
        assert dhcp.elsewhere == []
        assert dhcp.renewed.keys() == guests
    cloud.start()
    for server_id, _ in made:
        assert cloud.server(server_id)["status"] == "ACTIVE"
