"""A VXLAN interface's forwarding table as netlink messages: where frames for a MAC address, or for everybody, are sent.

Frames for everybody (and for MACs not learned yet) go to each entry of the all-zeros MAC. Source: bridge(8), the
kernel's Documentation/networking/vxlan.rst.
"""

import socket
import struct
from collections.abc import Iterable

from msgspec import Struct
from pyroute2.netlink.rtnl.ndmsg import ndmsg

from muster.host.network.rtnl import APPEND, CREATE, attributes_of

UDP_PORT = 4789  # IANA's, and Neutron's default
EVERYBODY = "00:00:00:00:00:00"
_RTM_NEWNEIGH, _RTM_DELNEIGH, _RTM_GETNEIGH = 28, 29, 30
_NTF_SELF = 0x02
_NUD_PERMANENT, _NUD_NOARP = 0x80, 0x40
_NDMSG = struct.Struct("=B3xiHBB")
_NDA_DST, _NDA_LLADDR = 1, 2


class Entry(Struct, frozen=True):
    """Frames for `mac` that the interface `index` sends go to the host at `address`."""

    index: int
    mac: str
    address: str


def put_entry(entry: Entry) -> ndmsg:
    """An entry that stays; another one for the same MAC stays beside it. EEXIST where it is there already."""
    message = _message(entry, _RTM_NEWNEIGH)
    message["state"] = _NUD_PERMANENT | _NUD_NOARP
    message["header"]["flags"] = CREATE | APPEND
    return message


def delete_entry(entry: Entry) -> ndmsg:
    """The end of an entry, learned or put. ENOENT where there is none."""
    return _message(entry, _RTM_DELNEIGH)


def list_entries() -> ndmsg:
    """A question for the entries of all interfaces; see `parsed`."""
    message = ndmsg()
    message["family"] = socket.AF_BRIDGE
    message["header"]["type"] = _RTM_GETNEIGH
    return message


def parsed(answers: Iterable[bytes]) -> list[Entry]:
    """The entries that lead to other hosts, learned ones too."""
    found = []
    for body in answers:
        _, index, _, _, _ = _NDMSG.unpack_from(body)
        attributes = attributes_of(body, _NDMSG.size)
        address, mac = attributes.get(_NDA_DST, b""), attributes.get(_NDA_LLADDR, b"")
        if len(address) == 4:
            found.append(Entry(index, ":".join(f"{octet:02x}" for octet in mac), socket.inet_ntoa(address)))
    return found


def _message(entry: Entry, kind: int) -> ndmsg:
    message = ndmsg()
    message["family"] = socket.AF_BRIDGE
    message["ifindex"] = entry.index
    message["flags"] = _NTF_SELF
    message["attrs"] = [("NDA_LLADDR", entry.mac), ("NDA_DST", entry.address)]
    message["header"]["type"] = kind
    return message
