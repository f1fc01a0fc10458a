"""Echo requests to many servers from one socket per address family: no process and no thread per ping.

Invariant: a reply counts only if it carries this run's random token and comes from an address that is waited for.
Source: RFC 792 (ICMP), RFC 4443 (ICMPv6); the unprivileged sockets of Linux: icmp(7), `net.ipv4.ping_group_range`.
"""

import asyncio
import contextlib
import ipaddress
import secrets
import socket
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Self

from muster.base.errors import Forbidden, Invalid, Unsupported

INTERVAL_S = 0.2
# With more addresses than are asked in an interval at this rate, each is asked less often.
MOST_PER_SECOND = 5_000
_RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
_REQUEST: dict[int, int] = {socket.AF_INET: 8, socket.AF_INET6: 128}
_REPLY: dict[int, int] = {socket.AF_INET: 0, socket.AF_INET6: 129}
_PROTOCOL: dict[int, int] = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}


def checksum(data: bytes) -> int:
    """The Internet checksum of RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo_request(family: int, identifier: int, sequence: int, payload: bytes) -> bytes:
    """An ICMP or ICMPv6 echo request; the kernel fills in ICMPv6's checksum."""
    header = struct.pack("!BBHHH", _REQUEST[family], 0, 0, identifier, sequence & 0xFFFF)
    if family == socket.AF_INET6:
        return header + payload
    return header[:2] + struct.pack("!H", checksum(header + payload)) + header[4:] + payload


def echo_payload(family: int, packet: bytes, *, raw: bool) -> bytes | None:
    """The payload of an echo reply; None for any other packet. Raw IPv4 sockets deliver the IP header too."""
    if raw and family == socket.AF_INET:
        if len(packet) < 20:
            return None
        packet = packet[(packet[0] & 0x0F) * 4 :]
    if len(packet) < 8 or packet[0] != _REPLY[family]:
        return None
    return packet[8:]


class Pinger:
    """Waits for the first reply of each of many addresses."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._token = secrets.token_bytes(16)
        self._identifier = secrets.randbelow(1 << 16)
        self._sequence = 0
        self._sockets: dict[int, tuple[socket.socket, bool]] = {}
        self._waiting: dict[str, list[asyncio.Future[float]]] = {}
        self._wanted = asyncio.Event()
        self._task = self._loop.create_task(self._run())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop sending and close the sockets."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        for one, _ in self._sockets.values():
            self._loop.remove_reader(one.fileno())
            one.close()
        self._sockets.clear()

    async def first_reply(self, address: str) -> float:
        """Ping until the address answers; the moment of the first reply.

        Raises Invalid for what is no address, Forbidden when the machine lets this user open no ICMP socket,
        Unsupported when it has none of the address's family.
        """
        key = _normal(address)
        self._open(_family(key))
        future: asyncio.Future[float] = self._loop.create_future()
        self._waiting.setdefault(key, []).append(future)
        self._send(key)
        self._wanted.set()
        try:
            return await future
        finally:
            self._waiting[key].remove(future)
            if not self._waiting[key]:
                del self._waiting[key]

    def _open(self, family: int) -> None:
        if family in self._sockets:
            return
        one, raw = _icmp_socket(family)
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        self._sockets[family] = one, raw
        self._loop.add_reader(one.fileno(), self._read, family)

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            await asyncio.sleep(max(INTERVAL_S, len(self._waiting) / MOST_PER_SECOND))
            for address in list(self._waiting):
                self._send(address)
            if not self._waiting:
                self._wanted.clear()

    def _send(self, address: str) -> None:
        family = _family(address)
        self._sequence += 1
        packet = echo_request(family, self._identifier, self._sequence, self._token)
        with contextlib.suppress(OSError):  # full queues, no route yet: the next round sends again
            self._sockets[family][0].sendto(packet, (address, 0))

    def _read(self, family: int) -> None:
        one, raw = self._sockets[family]
        while True:
            try:
                packet, source = one.recvfrom(2048)
            except OSError:  # nothing more, or an ICMP error for an earlier packet
                return
            if echo_payload(family, packet, raw=raw) == self._token:
                self._replied(_normal(source[0]))

    def _replied(self, address: str) -> None:
        now_s = self._now()
        for future in self._waiting.get(address, ()):
            if not future.done():
                future.set_result(now_s)


def ensure_ping() -> None:
    """Raises Forbidden when the machine lets this user open no ICMP socket: known before anything is made."""
    _icmp_socket(socket.AF_INET)[0].close()


def _icmp_socket(family: int) -> tuple[socket.socket, bool]:
    """An ICMP socket and whether it is raw: the unprivileged kind where the kernel allows it, else the raw one."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            return socket.socket(family, kind, _PROTOCOL[family]), kind == socket.SOCK_RAW
        except PermissionError as error:
            last = error
        except OSError as error:
            name = "IPv6" if family == socket.AF_INET6 else "IPv4"
            raise Unsupported(f"this machine cannot ping over {name}: {error.strerror}") from error
    raise Forbidden("ping needs root, or this user's group in the kernel's setting net.ipv4.ping_group_range") from last


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _normal(address: str) -> str:
    try:
        return str(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError as error:
        raise Invalid(f"not an IP address: {address}") from error
