"""A tunnel's forwarding entries on the wire."""

import socket
import struct

from muster.host.network.fdb import EVERYBODY, Entry, delete_entry, list_entries, parsed, put_entry

ENTRY = Entry(7, EVERYBODY, "192.0.2.1")
_ATTRIBUTES = struct.pack("=HH6s2x", 10, 2, bytes(6)) + struct.pack("=HH4s", 8, 1, socket.inet_aton("192.0.2.1"))
_NDMSG = struct.Struct("=B3xiHBB")


def encoded(message) -> bytes:
    message.encode()
    return bytes(message.data)


def test_an_entry_is_added_beside_others_and_stays() -> None:
    data = encoded(put_entry(ENTRY))
    assert struct.unpack_from("=HH", data, 4) == (28, 0xC00)  # RTM_NEWNEIGH; create, append
    assert _NDMSG.unpack_from(data, 16) == (socket.AF_BRIDGE, 7, 0xC0, 2, 0)  # permanent and noarp; self
    assert data[28:] == _ATTRIBUTES


def test_an_entry_is_deleted_where_it_leads_to() -> None:
    data = encoded(delete_entry(ENTRY))
    assert struct.unpack_from("=H", data, 4) == (29,)
    assert data[28:] == _ATTRIBUTES


def test_entries_that_lead_to_other_hosts_are_found() -> None:
    body = _NDMSG.pack(socket.AF_BRIDGE, 7, 2, 2, 0)
    to_a_port = _NDMSG.pack(socket.AF_BRIDGE, 9, 2, 0, 0) + struct.pack("=HH6s2x", 10, 2, b"\xfa\x16\x3e\0\0\1")
    assert parsed([body + _ATTRIBUTES, to_a_port, body]) == [ENTRY]
    assert struct.unpack_from("=HH", encoded(list_entries()), 4) == (30, 0)
