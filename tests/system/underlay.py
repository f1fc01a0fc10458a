"""Several hosts on one machine: namespaces joined by a switch, as their underlay."""

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from host_network_lab import Guest, Lab, Namespace, collected, plumbed
from msgspec import structs
from tests.commands import sh

from muster.domain.specs import NetworkSpec, PortSpec, SecurityGroupSpec
from muster.host.names import bridge_name
from muster.host.network import LinuxPlumbing


class Underlay:
    """A switch in a namespace of its own, and the hosts on it."""

    def __init__(self) -> None:
        self.ns = Namespace("switch")
        self.ns.sh("sysctl -qw net.ipv6.conf.default.disable_ipv6=1")
        sh(f"ip -n {self.ns.name} link add sw0 type bridge")
        sh(f"ip -n {self.ns.name} link set sw0 up")
        self.hosts: list[Host] = []

    def host(self, folder: Path) -> "Host":
        """One host more, as 192.0.2.N."""
        number = len(self.hosts) + 1
        host = Host(folder / f"host{number}", self, f"192.0.2.{number}")
        self.hosts.append(host)
        return host

    @contextlib.contextmanager
    def sniff(self) -> Iterator[Callable[..., list[tuple[str, bytes]]]]:
        """What hosts send each other through tunnels: (the receiver's address, the frame inside).

        The yielded function waits a little, and, if it is told until what is among them, for longer.
        """

        def start() -> socket.socket:
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            return raw

        raw = self.ns.run(start)

        def arrived() -> Iterator[tuple[str, bytes]]:
            with contextlib.suppress(BlockingIOError):
                while True:
                    frame, address = raw.recvfrom(65_536, socket.MSG_DONTWAIT)
                    # Each frame is seen as it comes in at one port of the switch.
                    is_tunnel = frame[12:14] + frame[23:24] + frame[36:38] == b"\x08\x00\x11\x12\xb5"
                    if is_tunnel and address[2] != 4 and address[0] != "sw0":
                        yield socket.inet_ntoa(frame[30:34]), frame[50:]

        def frames(until: Callable[[list[tuple[str, bytes]]], bool] = lambda _: True) -> list[tuple[str, bytes]]:
            return collected(arrived, 0.3, until)

        try:
            yield frames
        finally:
            raw.close()

    def remove(self) -> None:
        for host in self.hosts:
            host.remove()
        self.ns.remove()


class Host(Lab):
    """A host whose tunnels end at its address on the underlay."""

    def __init__(self, state_dir: Path, underlay: Underlay, address: str) -> None:
        super().__init__(state_dir)
        self.address = address
        self.settings = structs.replace(self.settings, tunnel_address=address)
        link = f"h{address.rsplit('.', maxsplit=1)[1]}"
        sh(f"ip -n {underlay.ns.name} link add {link} type veth peer name under0 netns {self.host.name}")
        sh(f"ip -n {underlay.ns.name} link set {link} master sw0 up")
        sh(f"ip -n {self.host.name} addr add {address}/24 dev under0")
        sh(f"ip -n {self.host.name} link set under0 up")

    def plumb(
        self, nets: Sequence[NetworkSpec], ports: Sequence[PortSpec], groups: Sequence[SecurityGroupSpec]
    ) -> list[Guest]:
        """Guests of these ports on this host, each with its first address."""
        guests = [self.guest(spec) for spec in ports]
        items = [plumbed(spec) for spec in ports]

        async def work(plumbing: LinuxPlumbing) -> None:
            await plumbing.links(nets, items)
            await plumbing.firewall(items, groups)
            await plumbing.dhcp(nets, items)

        self.run(work)
        for guest in guests:
            guest.use(guest.port.fixed_ips[0].ip_address + "/24")
        return guests

    def tell(self, *nets: NetworkSpec) -> None:
        """The networks change, as a fresh agent hears it."""
        self.run(lambda plumbing: plumbing.links(nets, []))

    def send_inside(self, net: NetworkSpec, to: str, frame: bytes) -> None:
        """Send a frame as if it came out of this host's end of a network's tunnel."""

        def work() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(struct.pack("!II", 0x08000000, net.segment_id << 8) + frame, (to, 4789))

        self.host.run(work)

    @contextlib.contextmanager
    def sniff_bridge(self, net: NetworkSpec) -> Iterator[Callable[..., list[bytes]]]:
        """Frames that reach the host itself on a network. The yielded function waits as that of `Underlay.sniff`."""

        def start() -> socket.socket:
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            raw.bind((bridge_name(net.id), 3))
            return raw

        raw = self.host.run(start)

        def arrived() -> Iterator[bytes]:
            with contextlib.suppress(BlockingIOError):
                while True:
                    frame, address = raw.recvfrom(65_536, socket.MSG_DONTWAIT)
                    if address[2] != 4:
                        yield frame

        def frames(until: Callable[[list[bytes]], bool] = lambda _: True) -> list[bytes]:
            return collected(arrived, 0.3, until)

        try:
            yield frames
        finally:
            raw.close()

    def peers(self, tunnel: str) -> set[str]:
        """Where a tunnel's frames for everybody go."""
        lines = self.host.sh(f"bridge fdb show dev {tunnel}").splitlines()
        return {line.split(" dst ")[1].split()[0] for line in lines if line.startswith("00:00:00:00:00:00")}


def joined(net: NetworkSpec, *hosts: Host, generation: int = 1) -> NetworkSpec:
    """The network when these hosts have ports of it."""
    return structs.replace(net, member_generation=generation, members=tuple(host.address for host in hosts))
