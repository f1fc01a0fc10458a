"""Echo packets."""

import socket
import struct

import pytest

from muster.base.errors import Unsupported
from muster.client.ping import Pinger, checksum, echo_payload, echo_request

TOKEN = b"0123456789abcdef"
IPV4_HEADER = bytes([0x46]) + bytes(23)  # version 4, six words: with an option


def reply(kind: int, payload: bytes) -> bytes:
    return struct.pack("!BBHHH", kind, 0, 0, 1, 1) + payload


def test_checksum_of_the_rfc() -> None:
    """The example of RFC 1071, section 3."""
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == ~0xDDF2 & 0xFFFF


def test_checksum_of_an_odd_number_of_bytes() -> None:
    assert checksum(b"\x01") == checksum(b"\x01\x00")


@pytest.mark.parametrize("payload", [TOKEN, TOKEN + b"x"])
def test_a_request_with_its_checksum_sums_up_to_nothing(payload: bytes) -> None:
    packet = echo_request(socket.AF_INET, 0x1234, 70_000, payload)
    assert checksum(packet) == 0
    assert packet[:2] == b"\x08\x00"
    assert packet[8:] == payload


def test_icmpv6_leaves_the_checksum_to_the_kernel() -> None:
    assert echo_request(socket.AF_INET6, 1, 1, TOKEN)[:4] == b"\x80\x00\x00\x00"


@pytest.mark.parametrize(
    ("family", "packet", "raw", "payload"),
    [
        (socket.AF_INET, reply(0, TOKEN), False, TOKEN),
        (socket.AF_INET, IPV4_HEADER + reply(0, TOKEN), True, TOKEN),
        (socket.AF_INET6, reply(129, TOKEN), True, TOKEN),
        (socket.AF_INET, reply(8, TOKEN), False, None),  # a request, seen on loopback
        (socket.AF_INET, reply(3, TOKEN), False, None),  # unreachable
        (socket.AF_INET, b"\x00", False, None),
        (socket.AF_INET, b"\x45\x00", True, None),
    ],
)
def test_only_replies_have_a_payload(family: int, packet: bytes, raw: bool, payload: bytes | None) -> None:
    assert echo_payload(family, packet, raw=raw) == payload


async def test_a_machine_without_ipv6_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of the kernel ended the whole run."""

    def none_of_that_family(*_: object) -> None:
        raise OSError(97, "Address family not supported by protocol")

    async with Pinger(lambda: 0.0) as pinger:
        monkeypatch.setattr("muster.client.ping.socket.socket", none_of_that_family)
        with pytest.raises(Unsupported, match="IPv6"):
            await pinger.first_reply("fd00::1")
