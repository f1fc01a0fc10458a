"""The smallest HTTP/1.1 server that a metadata service needs: GET and HEAD, persistent connections, fixed bounds.

httptools (llhttp) parses; nothing of a request but its method and path is looked at, so no header that a guest sends
can change who it is taken for. Invariant: an answer needs no waiting, so answers keep the order of their requests.
"""

import asyncio
import time
from collections.abc import Callable
from typing import cast
from urllib.parse import unquote

import httptools

from muster.host.metadata.budget import Budgets

#: What a connection may hold or do at most; a guest can only hurt its own metadata.
MAX_REQUEST_BYTES = 16_384
IDLE_TIMEOUT_S = 30.0
MAX_CONNECTIONS_PER_GUEST = 16
#: Of answers that wait to be read. A guest that asks on without reading is cut off: one of 64 KiB can be asked for in
#: 40 bytes.
MAX_UNREAD_BYTES = 256 * 1_024

#: Source address and path to content; None is a 404.
Responder = Callable[[str, str], bytes | None]

_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    429: "Too Many Requests",
    503: "Service Unavailable",
}


class Connections:
    """How many connections each source address has open, and how often it asks."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._open: dict[str, set[HttpConnection]] = {}
        self._budgets = Budgets(now)

    def add(self, source: str, connection: "HttpConnection") -> bool:
        """Count a connection; False when its source has too many."""
        known = self._open.setdefault(source, set())
        known.add(connection)
        return len(known) <= MAX_CONNECTIONS_PER_GUEST

    def may_ask(self, source: str) -> bool:
        """Count a request; False when its source asks too often."""
        return self._budgets.take(source)

    def remove(self, source: str, connection: "HttpConnection") -> None:
        known = self._open.get(source, set())
        known.discard(connection)
        if not known:
            self._open.pop(source, None)

    def close(self) -> None:
        """Drop all connections at once."""
        for connection in [connection for known in self._open.values() for connection in known]:
            connection.abort()


class HttpConnection(asyncio.Protocol):
    """One connection of one guest. Its callbacks `on_*` are called by the parser."""

    def __init__(self, respond: Responder, connections: Connections) -> None:
        self._respond = respond
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._source = ""
        self._url = b""
        self._received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._source = (transport.get_extra_info("peername") or ("",))[0]
        if not self._connections.add(self._source, self):
            self._send(503, b"too many connections\n", close=True)
            return
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.remove(self._source, self)
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        try:
            if self._received > MAX_REQUEST_BYTES:
                raise httptools.HttpParserError
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Answered as if it had not asked for another protocol (RFC 9110, 7.8), but what follows is unclear.
            if self._transport is not None:
                self._transport.close()
        except httptools.HttpParserError:
            self._send(400, b"not an HTTP request that is understood here\n", close=True)

    def pause_writing(self) -> None:
        """A guest that asks without reading gets no further questions in."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_message_complete(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return  # what else was asked with what ended the connection
        if self._transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self._transport.abort()
            return
        if not self._connections.may_ask(self._source):
            self._send(429, b"too many requests\n", close=True)
            return
        method = self._parser.get_method()
        close = not self._parser.should_keep_alive()
        url, self._url, self._received = self._url, b"", 0
        if method not in (b"GET", b"HEAD"):
            self._send(405, b"only GET and HEAD\n", close=close)
            return
        content = self._respond(self._source, _path(url))
        if content is None:
            self._send(404, b"not found\n", close=close, head=method == b"HEAD")
        else:
            self._send(200, content, close=close, head=method == b"HEAD")
        self._wait()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(IDLE_TIMEOUT_S, self.abort)

    def _send(self, status: int, content: bytes, *, close: bool, head: bool = False) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        lines = [
            f"HTTP/1.1 {status} {_REASONS[status]}",
            "Content-Type: text/plain; charset=utf-8",
            f"Content-Length: {len(content)}",
            f"Connection: {'close' if close else 'keep-alive'}",
            "",
            "",
        ]
        self._transport.write("\r\n".join(lines).encode() + (b"" if head else content))
        if close:
            self._transport.close()


def _path(url: bytes) -> str:
    """The path of a request target, in origin or absolute form; one that makes no sense is an empty path's sibling."""
    try:
        path = httptools.parse_url(url).path or b"/"
    except httptools.HttpParserInvalidURLError:
        return "/invalid"
    return unquote(path.decode("latin-1"))
