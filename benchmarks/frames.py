"""What a guest puts on its wire to get, renew and use a lease: Ethernet frames, made once before the clock runs.

Frames carry no UDP checksum, which IPv4 allows. Source: RFC 2131 and 2132 (DHCP), RFC 826 (ARP), RFC 792 (ICMP).
"""

import socket
import struct

import msgspec

DISCOVER, OFFER, REQUEST, ACK = 1, 2, 3, 5
_NOBODY, _EVERYBODY = "0.0.0.0", "255.255.255.255"
_BROADCAST = b"\xff" * 6
_COOKIE = b"\x63\x82\x53\x63"
# Subnet mask, router, name servers, host and domain name, MTU, lease time, routes: what udhcpc and dhclient ask for.
_WANTED = bytes((55, 8, 1, 3, 6, 12, 15, 26, 51, 121))
# Where the message of an answer begins (Ethernet, IPv4 without options, UDP), and its fields from there.
_BOOTP = 14 + 20 + 8
_XID, _YIADDR, _OPTIONS = _BOOTP + 4, _BOOTP + 16, _BOOTP + 240


class Seat(msgspec.Struct, frozen=True):
    """A guest's place: its tap and MAC, the address that it should be given, the server that should give it."""

    network: str
    tap: str
    mac: str
    address: str
    server: str
    server_mac: str


class Frames(msgspec.Struct, frozen=True):
    """What one guest says: the three requests, and the beginnings of its answers to ARP and ping."""

    discover: bytes
    request: bytes
    renew: bytes
    xid: bytes
    mac: bytes
    address: bytes


def frames_of(seat: Seat, number: int) -> Frames:
    """A guest's frames; `number` is its transaction's id."""
    mac, address, server = mac_bytes(seat.mac), socket.inet_aton(seat.address), socket.inet_aton(seat.server)
    from_nobody = ((_BROADCAST, mac), (_NOBODY, _EVERYBODY), (68, 67))
    from_owner = ((mac_bytes(seat.server_mac), mac), (seat.address, seat.server), (68, 67))
    chosen = b"\x32\x04" + address + b"\x36\x04" + server
    return Frames(
        discover=udp_frame(*from_nobody, _message(DISCOVER, mac, number, b"")),
        request=udp_frame(*from_nobody, _message(REQUEST, mac, number, chosen)),
        renew=udp_frame(*from_owner, _message(REQUEST, mac, number, b"", address)),
        xid=struct.pack("!I", number),
        mac=mac,
        address=address,
    )


def answer_of(frame: bytes, xid: bytes) -> tuple[int, bytes, bytes] | None:
    """Kind, address and server of a DHCP answer to `xid`; None for any other frame."""
    if frame[12:14] != b"\x08\x00" or frame[34:38] != b"\x00\x43\x00\x44" or frame[_XID : _XID + 4] != xid:
        return None
    kind, server, offset = 0, b"", _OPTIONS
    while offset + 2 <= len(frame) and frame[offset] != 255 and not (kind and server):
        code, length = frame[offset], frame[offset + 1]
        if code == 53:
            kind = frame[offset + 2]
        elif code == 54:
            server = frame[offset + 2 : offset + 6]
        offset += 2 + length
    return kind, frame[_YIADDR : _YIADDR + 4], server


def arp_reply(frame: bytes, mac: bytes) -> bytes | None:
    """The answer to a request for the address of `mac`, which the caller has checked; None for anything else."""
    if frame[12:14] != b"\x08\x06" or frame[20:22] != b"\x00\x01":
        return None
    return frame[6:12] + mac + frame[12:20] + b"\x00\x02" + mac + frame[38:42] + frame[22:32]


def echo_reply(frame: bytes) -> bytes | None:
    """The answer to a ping, None for anything else. Swapped addresses leave IPv4's checksum as it is."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 1 or frame[34] != 8:
        return None
    total = int.from_bytes(frame[36:38], "big") + 0x0800  # type 8 becomes 0 (RFC 1624)
    total = (total & 0xFFFF) + (total >> 16)
    head = frame[6:12] + frame[0:6] + frame[12:26] + frame[30:34] + frame[26:30]
    return head + b"\x00" + frame[35:36] + total.to_bytes(2, "big") + frame[38:]


def for_one_only(seat: Seat) -> list[tuple[int, int, int, int]]:
    """A classic BPF program that takes frames for the guest's MAC and ARP requests for its address, and drops the rest.

    As a network card does; what floods a bridge would otherwise be read a thousand times by one process.
    """
    mac, address = mac_bytes(seat.mac), socket.inet_aton(seat.address)
    load_word, load_half, equal, give = 0x20, 0x28, 0x15, 0x06
    return [
        (load_half, 0, 0, 12),
        (equal, 0, 3, 0x0806),
        (load_word, 0, 0, 38),
        (equal, 0, 5, int.from_bytes(address, "big")),
        (give, 0, 0, 0xFFFF),
        (load_word, 0, 0, 0),
        (equal, 0, 2, int.from_bytes(mac[:4], "big")),
        (load_half, 0, 0, 4),
        (equal, 1, 0, int.from_bytes(mac[4:], "big")),
        (give, 0, 0, 0),
        (give, 0, 0, 0xFFFF),
    ]


def udp_frame(macs: tuple[bytes, bytes], addresses: tuple[str, str], ports: tuple[int, int], payload: bytes) -> bytes:
    """A datagram as it is on the wire. `macs`: target and source; addresses and ports: source and target."""
    udp = struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload
    source, target = map(socket.inet_aton, addresses)
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, source, target)
    head = head[:10] + checksum(head).to_bytes(2, "big") + head[12:]
    return b"".join(macs) + b"\x08\x00" + head + udp


def mac_bytes(mac: str) -> bytes:
    """A MAC as it is on the wire."""
    return bytes.fromhex(mac.replace(":", ""))


def checksum(data: bytes) -> int:
    """The internet checksum of an even number of bytes (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF


def _message(kind: int, mac: bytes, number: int, options: bytes, own: bytes = bytes(4)) -> bytes:
    head = struct.pack("!BBBBIHH4s12x16s192x", 1, 1, 6, 0, number, 0, 0, own, mac)
    return head + _COOKIE + bytes((53, 1, kind)) + options + _WANTED + b"\xff"
