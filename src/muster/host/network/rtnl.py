"""Conversations with the kernel about links: many requests in one send, one answer each.

Requests are encoded by pyroute2's message classes; the socket is our own, blocking, and belongs to the thread (and
so to the network namespace) that made it. Invariant: a batch returns one `Answer` per request, in order.
Source: rtnetlink(7), netlink(7).
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from muster.base.errors import Transient, Unsupported
from muster.base.metrics import NETLINK_SENDS

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_NEWADDR, RTM_NEWQDISC = 16, 17, 18, 20, 36
CREATE, APPEND = 0x400, 0x800
_REQUEST, _MULTI, _ACK, _EXCL, _DUMP, _REPLACE = 0x1, 0x2, 0x4, 0x200, 0x300, 0x100
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_IFINFO = struct.Struct("=BxHiII")
_ATTRIBUTE = struct.Struct("=HH")
_IFLA_IFNAME, _IFLA_MASTER, _IFLA_IFALIAS, _IFLA_GROUP, _IFLA_CARRIER = 3, 10, 20, 27, 33
_ROOT = 0xFFFFFFFF  # TC_H_ROOT of linux/pkt_sched.h
_SOL_NETLINK, _NETLINK_CAP_ACK = 270, 10
_BATCH = 128  # requests per send: their answers fit the receive buffer
_TIMEOUT_S = 30

Request: TypeAlias = Any  # a message of pyroute2's, which has no types


class Link(Struct, frozen=True):
    """A network interface, as far as it matters here. A tap has a carrier while some process has it open."""

    index: int
    name: str
    alias: str = ""
    group: int = 0
    master: int = 0
    up: bool = False
    carrier: bool = False


class Answer(Struct, frozen=True):
    """What the kernel said to one request: `error` is an errno (0: done)."""

    error: int
    link: Link | None = None


class RtnlFailed(Transient):
    """The kernel refused a change of links or addresses."""

    code = "muster.host.netlink_failed"


class Rtnl:
    """A netlink socket for links and addresses."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.settimeout(_TIMEOUT_S)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        except PermissionError as error:
            self._socket.close()
            raise Unsupported("networks of a host need root (CAP_NET_ADMIN)") from error
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.bind((0, 0))
        self._sequence = 0

    def batch(self, requests: Sequence[Request]) -> list[Answer]:
        """Send all requests and collect their answers, in order. Cost: one send per 128 requests."""
        answers: list[Answer] = []
        for start in range(0, len(requests), _BATCH):
            answers += self._converse(requests[start : start + _BATCH])
        return answers

    def links(self) -> list[Link]:
        """All interfaces of the namespace; grows with them, for sweeps."""
        message = link_message({})
        message["header"]["type"] = RTM_GETLINK
        return [_parse(body) for body in self.dump(message)]

    def dump(self, request: Request) -> list[bytes]:
        """All that the kernel lists as the answer to a request, without netlink's headers. Raises RtnlFailed."""
        asked = self._send([request], _DUMP)
        found = []
        for kind, sequence, body in self._messages():
            if sequence != asked:
                continue  # the rest of a conversation that was given up
            if kind == _NLMSG_DONE:
                break
            if kind == _NLMSG_ERROR:
                raise RtnlFailed(f"the kernel does not list what it was asked for: {why(_errno_of(body))}")
            found.append(body)
        return found

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _converse(self, requests: Sequence[Request]) -> list[Answer]:
        first = self._send(requests, _ACK)
        answers: list[Answer | None] = [None] * len(requests)
        links: dict[int, Link] = {}
        missing = len(requests)
        for kind, sequence, body in self._messages():
            place = sequence - first
            if not 0 <= place < len(requests):
                continue
            if kind == RTM_NEWLINK:
                links[place] = _parse(body)
            elif kind == _NLMSG_ERROR and answers[place] is None:
                answers[place] = Answer(_errno_of(body), links.get(place))
                missing -= 1
            if not missing:
                break
        return [answer for answer in answers if answer is not None]

    def _send(self, requests: Sequence[Request], flags: int) -> int:
        first = self._sequence + 1
        data = bytearray()
        for request in requests:
            self._sequence += 1
            header = request["header"]
            header["flags"] = header.get("flags", 0) | _REQUEST | flags
            header["sequence_number"] = self._sequence
            request.encode()
            data += request.data
        NETLINK_SENDS.inc()
        try:
            self._socket.send(data)
        except OSError as error:
            raise RtnlFailed(f"the kernel takes no requests: {error}") from error
        return first

    def _messages(self) -> Iterator[tuple[int, int, bytes]]:
        while True:
            try:
                data = self._socket.recv(1 << 20)
            except OSError as error:
                raise RtnlFailed(f"no answer from the kernel: {error}") from error
            offset = 0
            while offset + 16 <= len(data):
                length, kind, _, sequence, _ = _HEADER.unpack_from(data, offset)
                yield kind, sequence, data[offset + 16 : offset + length]
                offset += (length + 3) & ~3


def link_message(attributes: Mapping[str, Any], *, index: int = 0, up: bool | None = None) -> ifinfmsg:
    """A change of an existing link, named by `index` or by IFLA_IFNAME."""
    message = ifinfmsg()
    message["index"] = index
    if up is not None:
        message["flags"], message["change"] = int(up), 1
    message["attrs"] = list(attributes.items())
    message["header"]["type"] = RTM_NEWLINK
    return message


def new_link(name: str, kind: str, options: Mapping[str, Any], attributes: Mapping[str, Any]) -> ifinfmsg:
    """Creation of a link of `kind`; fails with EEXIST when the name is taken."""
    message = link_message({"IFLA_IFNAME": name, **attributes, **link_options(kind, options)})
    message["header"]["flags"] = CREATE | _EXCL
    return message


def link_options(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The attribute with the options that only links of `kind` have."""
    info: list[tuple[str, Any]] = [("IFLA_INFO_KIND", kind)]
    if options:
        info.append(("IFLA_INFO_DATA", {"attrs": list(options.items())}))
    return {"IFLA_LINKINFO": {"attrs": info}}


def query_link(name: str) -> ifinfmsg:
    """A question for one link by name; the answer has it, or ENODEV."""
    message = link_message({"IFLA_IFNAME": name})
    message["header"]["type"] = RTM_GETLINK
    return message


def delete_group(group: int) -> ifinfmsg:
    """Deletion of all links of a group at once: one grace period of the kernel's instead of one per link."""
    message = link_message({"IFLA_GROUP": group})
    message["header"]["type"] = RTM_DELLINK
    return message


def address_message(index: int, address: str, prefixlen: int, *, version: int) -> ifaddrmsg:
    """An address for a link; replaces the same one."""
    message = ifaddrmsg()
    message["family"] = socket.AF_INET if version == 4 else socket.AF_INET6
    message["prefixlen"] = prefixlen
    message["index"] = index
    if version == 4:
        message["attrs"] = [("IFA_LOCAL", address), ("IFA_ADDRESS", address)]
    else:
        # Without duplicate address detection: the same address is on each host, and serves at once.
        message["flags"] = 0x02  # IFA_F_NODAD
        message["attrs"] = [("IFA_ADDRESS", address), ("IFA_FLAGS", 0x02)]
    message["header"]["type"] = RTM_NEWADDR
    message["header"]["flags"] = CREATE | _REPLACE
    return message


def no_queue(index: int) -> tcmsg:
    """What a link is given to send waits nowhere: a tap has a queue of its own already, from which the guest reads."""
    message = tcmsg()
    message["index"] = index
    message["parent"] = _ROOT
    message["attrs"] = [("TCA_KIND", "noqueue")]
    message["header"]["type"] = RTM_NEWQDISC
    message["header"]["flags"] = CREATE | _REPLACE
    return message


def why(number: int) -> str:
    """An errno in words."""
    return f"{errno.errorcode.get(number, str(number))}, {os.strerror(number)}"


def _errno_of(body: bytes) -> int:
    """Of an NLMSG_ERROR, which says it as a negative number."""
    return -int(struct.unpack_from("=i", body)[0])


def _parse(body: bytes) -> Link:
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    found = attributes_of(body, _IFINFO.size)
    return Link(
        index,
        _text(found.get(_IFLA_IFNAME)),
        _text(found.get(_IFLA_IFALIAS)),
        _word(found.get(_IFLA_GROUP)),
        _word(found.get(_IFLA_MASTER)),
        bool(flags & 1),
        any(found.get(_IFLA_CARRIER, b"")),
    )


def attributes_of(body: bytes, offset: int) -> dict[int, bytes]:
    """Attributes from `offset` on, by number."""
    found: dict[int, bytes] = {}
    while offset + 4 <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = body[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def _text(value: bytes | None) -> str:
    return (value or b"").rstrip(b"\0").decode(errors="replace")


def _word(value: bytes | None) -> int:
    return int.from_bytes(value[:4], "little") if value else 0
