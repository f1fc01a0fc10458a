"""One HTTP/1.1 connection of the client: writes a request, parses its response.

Invariant: a connection carries one request at a time, and is reused only after a complete response that allows it.
"""

import asyncio
from typing import cast

import httptools
import msgspec

from muster.base.errors import Transient


class Response(msgspec.Struct, frozen=True):
    """A complete response. Header names are in lower case; of a repeated header the last value is kept."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection(asyncio.Protocol):
    """Parses with httptools (llhttp), the parser that uvicorn uses, and hands the response to one future."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Response] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._headers_done = False
        self._keep = False

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent on it."""
        return self._keep and self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes) -> asyncio.Future[Response]:
        """Write one request; the future ends with its response, or with Transient when the connection breaks.

        Raises Transient when it is closed already.
        """
        if self._transport is None or self._transport.is_closing():
            raise Transient("the connection was closed before the request was sent", code="client.connection")
        self._parser = httptools.HttpResponseParser(self)
        self._headers_done = self._keep = False
        self._waiter = waiter = self._loop.create_future()
        self._transport.write(request)
        return waiter

    def close(self) -> None:
        """Close without waiting; a response that is under way is given up."""
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports do not derive from asyncio's

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:  # bytes that nobody asked for
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"the answer is not HTTP/1.1: {error}")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._waiter is None:
            return
        ends_with_connection = not {"content-length", "transfer-encoding"} & self._headers.keys()
        if exc is None and self._headers_done and ends_with_connection:
            self._finish()
        else:
            self._fail(f"the connection broke before the answer was complete: {exc or 'closed by the server'}")

    # --- httptools callbacks

    def on_message_begin(self) -> None:
        self._headers, self._body = {}, []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._headers_done = self._parser.get_status_code() >= 200

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= 200:  # a 1xx announces the real answer (RFC 9110, 15.2)
            self._keep = self._parser.should_keep_alive()
            self._finish()

    # --- the end of a request

    def _finish(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(Response(self._parser.get_status_code(), self._headers, b"".join(self._body)))

    def _fail(self, reason: str) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(Transient(reason, code="client.connection"))
