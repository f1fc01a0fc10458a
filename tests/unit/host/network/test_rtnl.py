"""Conversations with the kernel whose other end is a list of datagrams."""

import errno
import struct
from typing import Any

import pytest

from muster.host.network.rtnl import RTM_GETLINK, Rtnl, RtnlFailed, link_message

_DONE, _ERROR, _LINK = 3, 2, 16


def datagram(*messages: tuple[int, int, bytes]) -> bytes:
    """Netlink messages of these kinds, sequence numbers and bodies."""
    return b"".join(struct.pack("=IHHII", 16 + len(body), kind, 0, seq, 0) + body for kind, seq, body in messages)


class Kernel:
    """A socket: takes what is sent, and hands out these datagrams."""

    def __init__(self, *datagrams: bytes) -> None:
        self._datagrams = list(datagrams)

    def send(self, data: bytes) -> None: ...

    def recv(self, size: int) -> bytes:
        if not self._datagrams:
            raise TimeoutError("timed out")
        return self._datagrams.pop(0)


def rtnl(*datagrams: bytes) -> Rtnl:
    made = Rtnl.__new__(Rtnl)
    made._socket, made._sequence = Kernel(*datagrams), 6  # type: ignore[assignment]
    return made


def question() -> Any:
    message = link_message({})
    message["header"]["type"] = RTM_GETLINK
    return message


def test_what_an_earlier_conversation_left_is_no_answer() -> None:
    """A sweep would have taken the end of the old list for the end of its own, and left what stands behind it."""
    talk = rtnl(
        datagram((_LINK, 6, b"old")),
        datagram((_DONE, 6, bytes(4)), (_ERROR, 5, struct.pack("=i", -16)), (_LINK, 7, b"new1")),
        datagram((_LINK, 7, b"new2"), (_DONE, 7, bytes(4))),
    )
    assert talk.dump(question()) == [b"new1", b"new2"]


def test_a_refusal_says_why() -> None:
    with pytest.raises(RtnlFailed, match="EPERM"):
        rtnl(datagram((_ERROR, 7, struct.pack("=i", -1)))).dump(question())


def test_a_kernel_that_is_short_of_memory_puts_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """It failed the servers of the batch."""

    def send(self: Kernel, data: bytes) -> None:
        raise OSError(errno.ENOBUFS, "No buffer space available")

    monkeypatch.setattr(Kernel, "send", send)
    with pytest.raises(RtnlFailed, match="No buffer space"):
        rtnl().batch([question()])


def test_a_kernel_that_says_nothing_is_not_waited_for_for_ever() -> None:
    with pytest.raises(RtnlFailed, match="no answer"):
        rtnl().dump(question())
