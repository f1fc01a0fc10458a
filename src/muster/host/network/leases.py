"""How the agent learns that a guest asked for its lease: dnsmasq's log, read from a FIFO per server.

No process per lease, no poll: the event loop wakes when a server writes. Nothing grows: a FIFO holds 1 MiB, what
nobody reads is dropped by dnsmasq, and of what nobody consumes the newest `_KEPT` are kept.
Invariant: losing a line costs a time stamp, nothing else; nothing is decided by the log alone.
"""

import asyncio
import contextlib
import fcntl
import os
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Callable

from msgspec import Struct

_ACK4 = re.compile(rb"DHCPACK\(\S+\) (\d+\.\d+\.\d+\.\d+) ([0-9a-f:]{17})")
_REPLY6 = re.compile(rb"DHCPREPLY\(\S+\) ([0-9a-f:]+) ")
_F_SETPIPE_SZ = 1031
_PIPE_SIZE = 1 << 20
_KEPT = 10_000
_LONGEST_LINE = 8192

Who = Callable[[str, str], tuple[str, str] | None]


class LeaseSeen(Struct, frozen=True, kw_only=True):
    """A guest was given, or renewed, its lease. `port_id` None: its port has just gone. `at_s` is Unix seconds."""

    network_id: str
    port_id: str | None
    mac_address: str
    ip_address: str
    at_s: float


class LeaseWatch:
    """Reads all servers' logs on the event loop. `who` tells port and MAC of an address of a network."""

    def __init__(self, who: Who) -> None:
        self._who = who
        self._files: dict[str, int] = {}
        self._rests: dict[str, bytes] = {}
        self._seen: deque[LeaseSeen] = deque(maxlen=_KEPT)
        self._news = asyncio.Event()
        self._closed = False

    def open(self, network_id: str, file: int) -> None:
        """Read a server's log from `file`, which belongs to the watch from now on."""
        self.forget(network_id)
        if self._closed:
            os.close(file)
            return
        with contextlib.suppress(OSError):  # not allowed beyond fs.pipe-max-size
            fcntl.fcntl(file, _F_SETPIPE_SZ, _PIPE_SIZE)
        self._files[network_id] = file
        asyncio.get_running_loop().add_reader(file, self._read, network_id, file)

    def forget(self, network_id: str) -> None:
        """A server is over."""
        file = self._files.pop(network_id, None)
        self._rests.pop(network_id, None)
        if file is not None:
            asyncio.get_running_loop().remove_reader(file)
            os.close(file)

    async def leases(self) -> AsyncIterator[LeaseSeen]:
        """Leases as they are seen, until the watch is closed. For one consumer."""
        while True:
            while self._seen:
                yield self._seen.popleft()
            if self._closed:
                return
            self._news.clear()
            await self._news.wait()

    def close(self) -> None:
        """Stop reading; servers go on."""
        for network_id in list(self._files):
            self.forget(network_id)
        self._closed = True
        self._news.set()

    def _read(self, network_id: str, file: int) -> None:
        try:
            data = os.read(file, 1 << 16)
        except BlockingIOError:
            return
        *lines, rest = (self._rests.get(network_id, b"") + data).split(b"\n")
        self._rests[network_id] = rest[-_LONGEST_LINE:]
        now_s = time.time()
        for line in lines:
            seen = parse_line(line)
            if seen is not None:
                self._note(network_id, *seen, now_s)

    def _note(self, network_id: str, address: str, mac: str | None, now_s: float) -> None:
        port_id, known_mac = self._who(network_id, address) or (None, "")
        self._seen.append(
            LeaseSeen(
                network_id=network_id, port_id=port_id, mac_address=mac or known_mac, ip_address=address, at_s=now_s
            )
        )
        self._news.set()


def parse_line(line: bytes) -> tuple[str, str | None] | None:
    """Address and MAC (None for version 6) of a line that tells of a lease; None for any other line."""
    if found := _ACK4.search(line):
        return found[1].decode(), found[2].decode()
    if found := _REPLY6.search(line):
        return found[1].decode(), None
    return None
