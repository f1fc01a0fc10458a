"""Telling a DHCP server that a lease is over, on behalf of a guest that is gone (DHCPRELEASE, RFC 2131 section 4.4.6).

Without it dnsmasq keeps the address for the old MAC until the lease ends, and refuses it to the next port.
Cost: one datagram per lease, no process.
"""

import ipaddress
import secrets
import socket
import struct
from collections.abc import Iterable

from muster.base.errors import Transient

_SO_BINDTODEVICE = 25
_MAGIC = bytes.fromhex("63825363")


def release_packet(mac: str, address: str, server: str, transaction: int) -> bytes:
    """A DHCPRELEASE of `address` by `mac` to `server`."""
    fixed = struct.pack(
        "!BBBBIHH4s4s4s4s16s64s128s",
        1,
        1,
        6,
        0,
        transaction,
        0,
        0,
        ipaddress.IPv4Address(address).packed,
        bytes(4),
        bytes(4),
        bytes(4),
        bytes.fromhex(mac.replace(":", "")),
        b"",
        b"",
    )
    return fixed + _MAGIC + bytes((53, 1, 7, 54, 4)) + ipaddress.IPv4Address(server).packed + b"\xff"


def release(bridge: str, leases: Iterable[tuple[str, str, str]]) -> None:
    """Release (MAC, address, server address) leases at the server of `bridge`. Raises Transient."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, bridge.encode())
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            for mac, address, server in leases:
                sender.sendto(release_packet(mac, address, server, secrets.randbits(32)), (server, 67))
    except OSError as error:
        raise Transient(f"leases on {bridge} cannot be released: {error}") from error
