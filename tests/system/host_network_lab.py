"""A host and its guests as network namespaces, for the system tests of the host's networking.

A guest is a namespace whose `eth0` is one end of a veth pair; the other end stands where the port's tap would, with
the tap's name and mark. What runs "inside" a namespace runs in a thread that has entered it, so the sockets are real
and nothing of it touches the machine's own network.
"""

import asyncio
import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from namespaces import inside
from tests.commands import sh

from muster.domain.specs import FixedIp, NetworkSpec, PortSpec, SubnetSpec
from muster.host.names import tap_name
from muster.host.network import LinuxPlumbing, NetworkSettings
from muster.host.ports import PlumbedPort

T = TypeVar("T")
BROADCAST = b"\xff" * 6
#: For what must come, on a machine however busy.
PATIENCE_S = 300.0
#: For what must not come.
MOMENT_S = 0.8
#: Whoever gets no answer for so long asks again.
AGAIN_S = 5.0


class Namespace:
    """A network namespace of the test's own."""

    def __init__(self, kind: str) -> None:
        self.name = f"muster-{kind}-{uuid.uuid4().hex[:8]}"
        sh(f"ip netns add {self.name}")
        sh(f"ip -n {self.name} link set lo up")

    def run(self, action: Callable[[], T]) -> T:
        """Run `action` inside, in a thread of its own; its result or its error."""
        return inside(self.name, action)

    def sh(self, command: str) -> str:
        return sh(f"ip netns exec {self.name} {command}")

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, timeout=120, check=False)


class Guest:
    """A guest of one port."""

    def __init__(self, host: Namespace, port: PortSpec) -> None:
        self.port = port
        self.mac = bytes.fromhex(port.mac_address.replace(":", ""))
        self.ns = Namespace("guest")
        self._host = host
        self.address = ""
        sh(f"ip netns exec {self.ns.name} sysctl -qw net.ipv6.conf.default.accept_dad=0")
        tap = tap_name(port.id)
        sh(f"ip -n {host.name} link add {tap} type veth peer name eth0 netns {self.ns.name}")
        sh(f"ip -n {host.name} link set {tap} alias muster:port:{port.id}")
        sh(f"ip -n {self.ns.name} link set eth0 address {port.mac_address} up")

    def wait_until_joined(self) -> None:
        """The bridge notices a veth's carrier only after up to a second; a tap's, whose state is unknown, at once."""
        tap, until = tap_name(self.port.id), time.monotonic() + PATIENCE_S
        while "state forwarding" not in sh(f"ip -n {self._host.name} -d link show {tap}"):
            assert time.monotonic() < until, f"{tap} does not forward"
            time.sleep(0.02)

    def use(self, address: str) -> None:
        """Configure an address, with its prefix length."""
        self.wait_until_joined()
        sh(f"ip -n {self.ns.name} addr add {address} dev eth0")
        self.address = self.address or address.split("/", maxsplit=1)[0]

    def dhcp(self, timeout_s: float = PATIENCE_S, chaddr: bytes | None = None) -> dict[Any, Any] | None:
        """A whole lease (DISCOVER, OFFER, REQUEST, ACK) by raw frames; options by number, `ip` and `next`, or None."""
        self.wait_until_joined()
        return self.ns.run(lambda: _dora(self.mac, chaddr or self.mac, timeout_s))

    def dhcp6(self, timeout_s: float = PATIENCE_S) -> str | None:
        """An address by DHCPv6 (SOLICIT, ADVERTISE, REQUEST, REPLY), or None."""
        answer = self.dhcp6_options(timeout_s)
        return None if answer is None else answer["ip"]

    def dhcp6_options(self, timeout_s: float = PATIENCE_S) -> dict[Any, Any] | None:
        """The same with the reply's options by number, `ip` among them."""
        self.wait_until_joined()
        return self.ns.run(lambda: _dora6(self.mac, timeout_s))

    def renew(self, address: str, server: str) -> int | None:
        """A renewal by unicast from the configured address; the answer's message type."""
        return self.ns.run(lambda: _renew(self.mac, address, server))

    def ping(self, address: str, timeout_s: float = PATIENCE_S, again_s: float = AGAIN_S) -> bool:
        return self.ns.run(lambda: ping(address, timeout_s, again_s))

    def connect(self, address: str, port: int, timeout_s: float = PATIENCE_S) -> socket.socket | None:
        """A TCP connection, or None."""

        def work() -> socket.socket | None:
            with contextlib.suppress(OSError):
                return socket.create_connection((address, port), timeout=timeout_s)
            return None

        return self.ns.run(work)

    def reaches(self, address: str, port: int, timeout_s: float = PATIENCE_S) -> bool:
        connection = self.connect(address, port, timeout_s)
        if connection is not None:
            connection.close()
        return connection is not None

    def send(self, *frames: bytes) -> None:
        """Send raw frames."""

        def work() -> None:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
                raw.bind(("eth0", 0))
                for frame in frames:
                    raw.send(frame)

        self.ns.run(work)

    @contextlib.contextmanager
    def listen(self, port: int) -> Iterator[None]:
        """A TCP server that echoes, while the context lasts."""
        with tcp_echo(self.ns, port):
            yield

    @contextlib.contextmanager
    def sniff(self) -> Iterator[Callable[..., list[bytes]]]:
        """Frames that arrive from others; the yielded function waits, and returns those since its last call.

        It waits for so many seconds, and, if it is told until what is among them, for longer.
        """

        def start() -> socket.socket:
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            raw.bind(("eth0", 3))
            raw.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
            return raw

        raw = self.ns.run(start)

        def arrived() -> Iterator[bytes]:
            with contextlib.suppress(BlockingIOError):
                while True:
                    frame, address = raw.recvfrom(4096, socket.MSG_DONTWAIT)
                    if address[2] != socket.PACKET_OUTGOING and not _is_chatter(frame):  # type: ignore[attr-defined]
                        yield frame

        def frames(wait_s: float, until: Callable[[list[bytes]], bool] = lambda _: True) -> list[bytes]:
            return collected(arrived, wait_s, until)

        try:
            yield frames
        finally:
            raw.close()


def collected(arrived: Callable[[], Iterable[T]], wait_s: float, until: Callable[[list[T]], bool]) -> list[T]:
    """What arrives within a time, and beyond it until it is what is waited for; but not for ever."""
    got, deadline = list[T](), time.monotonic() + PATIENCE_S
    while True:
        time.sleep(wait_s)
        got += arrived()
        if until(got) or time.monotonic() > deadline:
            return got


def kill(pid: int) -> None:
    """kill -9, and wait until it is no more."""
    process = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
        assert select.select([process], [], [], PATIENCE_S)[0]
    finally:
        os.close(process)


@contextlib.contextmanager
def tcp_echo(ns: Namespace, port: int, address: str = "") -> Iterator[None]:
    """A TCP echo server inside a namespace."""

    def start() -> socket.socket:
        server = socket.create_server((address, port))
        server.settimeout(0.1)
        return server

    server = ns.run(start)
    stop = threading.Event()

    def echo(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(PATIENCE_S)
            while data := connection.recv(100):
                connection.sendall(data)

    def serve() -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = server.accept()
                threading.Thread(target=echo, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        server.close()


@contextlib.contextmanager
def udp_echo(ns: Namespace, port: int) -> Iterator[None]:
    """A UDP echo server inside a namespace."""

    def start() -> socket.socket:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("", port))
        server.settimeout(0.1)
        return server

    server = ns.run(start)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                data, peer = server.recvfrom(100)
                server.sendto(data, peer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        server.close()


def udp_answers(ns: Namespace, address: str, port: int, timeout_s: float = PATIENCE_S) -> bool:
    """Whether a datagram comes back."""

    def work() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client, contextlib.suppress(OSError):
            client.settimeout(timeout_s)
            client.sendto(b"x", (address, port))
            return client.recv(10) == b"x"
        return False

    return ns.run(work)


class Lab:
    """One host and its guests."""

    def __init__(self, state_dir: Path) -> None:
        self.settings = NetworkSettings(state_dir=state_dir, lease_time_s=3600, dhcp_timeout_s=200.0)
        self.host = Namespace("host")
        self.guests: list[Guest] = []

    def guest(self, port: PortSpec) -> Guest:
        """A guest for a port; the port still has to be plumbed."""
        guest = Guest(self.host, port)
        self.guests.append(guest)
        return guest

    def run(self, scenario: Callable[[LinuxPlumbing], Awaitable[T]], settings: NetworkSettings | None = None) -> T:
        """Run a scenario with a fresh agent inside the host; the agent leaves at its end."""

        async def work() -> T:
            plumbing = LinuxPlumbing(settings or self.settings)
            try:
                return await asyncio.wait_for(scenario(plumbing), 240)
            finally:
                await plumbing.close()

        return self.host.run(lambda: asyncio.run(work()))

    def remove(self) -> None:
        """Nothing is left: DHCP servers by their pid files, namespaces."""
        with contextlib.suppress(Exception):
            self.run(lambda plumbing: plumbing.teardown())
        for guest in self.guests:
            guest.ns.remove()
        self.host.remove()


def network(number: int = 1, cidr: str = "10.80.0.0/24", dhcp: str = "10.80.0.2", **more: Any) -> NetworkSpec:
    subnet = SubnetSpec(
        id=f"subnet-{number}",
        ip_version=6 if ":" in cidr else 4,
        cidr=cidr,
        dhcp_address=dhcp,
        **{"gateway_ip": "10.80.0.1" if ":" not in cidr else None} | more,
    )
    return NetworkSpec(id=str(uuid.uuid4()), generation=1, segment_id=number, mtu=1400, subnets=(subnet,))


def port(net: NetworkSpec, number: int, *, groups: tuple[str, ...] = (), **more: Any) -> PortSpec:
    fixed = (FixedIp(net.subnets[0].id, f"10.80.0.{number}"),)
    mac = f"fa:16:3e:{uuid.uuid4().hex[:2]}:00:{number:02x}"
    defaults: dict[str, Any] = {"mac_address": mac, "fixed_ips": fixed, "security_group_ids": groups}
    return PortSpec(id=str(uuid.uuid4()), network_id=net.id, **defaults | more)


def plumbed(spec: PortSpec, hostname: str = "guest") -> PlumbedPort:
    return PlumbedPort(server_id=str(uuid.uuid4()), hostname=hostname, port=spec)


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF


def udp_frame(mac: bytes, source: str, target: str, ports: tuple[int, int], payload: bytes) -> bytes:
    """A broadcast Ethernet frame with a UDP datagram (no UDP checksum)."""
    udp = struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, socket.inet_aton(source), socket.inet_aton(target)
    )
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return BROADCAST + mac + b"\x08\x00" + head + udp


def arp_frame(mac: bytes, sender_mac: bytes, sender_ip: str, target_ip: str, operation: int = 2) -> bytes:
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    body += sender_mac + socket.inet_aton(sender_ip) + bytes(6) + socket.inet_aton(target_ip)
    return BROADCAST + mac + b"\x08\x06" + body


def discover(mac: bytes, transaction: int) -> bytes:
    """A frame with a DHCPDISCOVER."""
    return udp_frame(mac, "0.0.0.0", "255.255.255.255", (68, 67), _bootp(1, mac, transaction, b""))


def _bootp(
    kind: int, chaddr: bytes, transaction: int, options: bytes, ciaddr: bytes = bytes(4), *, broadcast: bool = False
) -> bytes:
    head = struct.pack(
        "!BBBBIHH4s4s4s4s16s64s128s",
        1,
        1,
        6,
        0,
        transaction,
        0,
        0x8000 * broadcast,
        ciaddr,
        b"",
        b"",
        b"",
        chaddr,
        b"",
        b"",
    )
    return (
        head
        + b"\x63\x82\x53\x63"
        + bytes((53, 1, kind))
        + options
        + bytes((55, 16, 1, 3, 6, 12, 15, 26, 51, 66, 67, 101, 108, 120, 121, 150, 210, 252))
        + b"\xff"
    )


def _options(payload: bytes) -> dict[Any, Any]:
    found: dict[Any, Any] = {"ip": socket.inet_ntoa(payload[16:20]), "next": socket.inet_ntoa(payload[20:24])}
    offset = 240
    while offset < len(payload) and payload[offset] != 255:
        if payload[offset] == 0:
            offset += 1
            continue
        found[payload[offset]] = payload[offset + 2 : offset + 2 + payload[offset + 1]]
        offset += 2 + payload[offset + 1]
    return found


def _answer(raw: socket.socket, transaction: int, kinds: bytes, until: float) -> dict[Any, Any] | None:
    """The first answer of one of these kinds."""
    while (left := until - time.monotonic()) > 0:
        raw.settimeout(left)
        try:
            frame, address = raw.recvfrom(4096)
        except TimeoutError:
            return None
        is_answer = frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[36:38] == b"\x00\x44"
        if is_answer and address[2] != 4 and frame[46:50] == struct.pack("!I", transaction):
            options = _options(frame[42:])
            if options[53] in kinds:
                return options
    return None


def _dora(mac: bytes, chaddr: bytes, timeout_s: float) -> dict[Any, Any] | None:
    until = time.monotonic() + timeout_s
    transaction = uuid.uuid4().int & 0xFFFFFFFF
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as raw:
        raw.bind(("eth0", 3))

        def ask(kind: int, options: bytes, answers: bytes) -> dict[Any, Any] | None:
            """As guests do, again and again: on a busy machine a datagram may be dropped."""
            body = _bootp(kind, chaddr, transaction, options, broadcast=chaddr != mac)
            answer = None
            while answer is None and (now := time.monotonic()) < until:
                raw.send(udp_frame(mac, "0.0.0.0", "255.255.255.255", (68, 67), body))
                answer = _answer(raw, transaction, answers, min(until, now + AGAIN_S))
            return answer

        offer = ask(1, b"", b"\x02")
        if offer is None:
            return None
        wanted = b"\x32\x04" + socket.inet_aton(offer["ip"]) + b"\x36\x04" + offer[54]
        answer = ask(3, wanted, b"\x05\x06")
        return answer if answer is not None and answer[53] == b"\x05" else None


def _renew(mac: bytes, address: str, server: str) -> int | None:
    transaction = uuid.uuid4().int & 0xFFFFFFFF
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind((address, 68))
        client.settimeout(PATIENCE_S)
        client.sendto(_bootp(3, mac, transaction, b"", socket.inet_aton(address)), (server, 67))
        with contextlib.suppress(TimeoutError):
            return int(_options(client.recv(4096))[53][0])
    return None


def ping(address: str, timeout_s: float = PATIENCE_S, again_s: float = AGAIN_S) -> bool:
    family, protocol, kind = (
        (socket.AF_INET6, socket.IPPROTO_ICMPV6, 128) if ":" in address else (socket.AF_INET, socket.IPPROTO_ICMP, 8)
    )
    identity = os.getpid() & 0xFFFF
    body = struct.pack("!BBHHH", kind, 0, 0, identity, 1) + uuid.uuid4().bytes
    body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    until = time.monotonic() + timeout_s
    with socket.socket(family, socket.SOCK_RAW, protocol) as raw, contextlib.suppress(OSError):
        while (now := time.monotonic()) < until:
            raw.sendto(body, (address, 0))
            if _returns(raw, body[8:], min(until, now + again_s)):
                return True
    return False


def _returns(raw: socket.socket, payload: bytes, until: float) -> bool:
    with contextlib.suppress(TimeoutError):
        while (left := until - time.monotonic()) > 0:
            raw.settimeout(left)
            if payload in raw.recv(4096)[4:]:
                return True
    return False


def _is_chatter(frame: bytes) -> bool:
    """Multicast listener reports and router solicitations, which every kernel sends when it pleases."""
    return frame[12:14] == b"\x86\xdd" and (frame[20] == 0 or (frame[20] == 58 and frame[54] == 133))


def link_local(mac: bytes) -> str:
    """The link-local address of a MAC."""
    eui = bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:]
    return socket.inet_ntop(socket.AF_INET6, b"\xfe\x80" + bytes(6) + eui)


def icmp6_frame(mac: bytes, source: str, target: str, kind: int, body: bytes) -> bytes:
    """An ICMPv6 message to a multicast address."""
    addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
    message = struct.pack("!BBH", kind, 0, 0) + body
    total = checksum(addresses + struct.pack("!II", len(message), 58) + message)
    message = message[:2] + struct.pack("!H", total) + message[4:]
    head = struct.pack("!IHBB", 0x60000000, len(message), 58, 255) + addresses
    return b"\x33\x33" + addresses[-4:] + mac + b"\x86\xdd" + head + message


def neighbour_advert(mac: bytes, source: str, target: str) -> bytes:
    """An unasked claim that `target` is at `mac`."""
    body = struct.pack("!I", 0x20000000) + socket.inet_pton(socket.AF_INET6, target) + b"\x02\x01" + mac
    return icmp6_frame(mac, source, "ff02::1", 136, body)


def _dora6(mac: bytes, timeout_s: float) -> dict[Any, Any] | None:
    until = time.monotonic() + timeout_s
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.bind(("::", 546))
        scope = socket.if_nametoindex("eth0")
        duid = b"\x00\x03\x00\x01" + mac
        ia = b"\x00\x03\x00\x0c" + mac[2:] + bytes(8)
        wanted = struct.pack("!HHHHH", 6, 6, 23, 42, 59)
        kind, server = 1, b""
        while time.monotonic() < until:
            number = os.urandom(3)
            message = bytes((kind,)) + number + b"\x00\x01\x00\x0a" + duid + server + ia + wanted
            with contextlib.suppress(OSError):
                client.settimeout(0.5)
                client.sendto(message, ("ff02::1:2", 547, 0, scope))
                data = client.recv(2048)
                options = dict(_options6(data[4:]))
                if data[1:4] != number or 3 not in options:
                    continue
                leased = dict(_options6(options[3][12:])).get(5)
                if data[0] == 7 and leased:
                    return {**options, "ip": socket.inet_ntop(socket.AF_INET6, leased[:16])}
                if data[0] == 2 and leased:
                    kind, server = 3, struct.pack("!HH", 2, len(options[2])) + options[2]
    return None


def _options6(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        code, length = struct.unpack_from("!HH", data)
        yield code, data[4 : 4 + length]
        data = data[4 + length :]
