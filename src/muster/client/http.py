"""The HTTP client: little CPU per request, since it often shares the machine with what it measures.

Plain HTTP/1.1 with connection reuse, and nothing else: no redirects, cookies, proxies, compression or retries. The
decision record 0004 says why it is not httpx or aiohttp.

Invariants: a request is sent at most once; what it could not complete is raised, never repeated here. A connection that
has been idle longer than `MAX_IDLE_S` is not used again, since servers close idle ones and the request would be lost.
"""

import asyncio
import re
import ssl
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import msgspec

from muster.base.errors import Invalid, Transient
from muster.client.http_connection import Connection, Response

__all__ = ["HttpClient", "Origin", "Request", "Response", "tls_context"]

# Apache closes idle connections after 5 s by default, uvicorn too; HAProxy often after 10 s.
MAX_IDLE_S = 4.0
_UNSAFE_TARGET = re.compile(r"[^!-~]")
_UNSAFE_VALUE = re.compile(r"[\r\n\0]")


class Origin(msgspec.Struct, frozen=True):
    """Where a URL leads: scheme, host, port."""

    scheme: str
    host: str
    port: int


class Request(msgspec.Struct, frozen=True):
    """One request. `url` is absolute and already quoted; header values are latin-1 text without line breaks."""

    method: str
    url: str
    headers: Mapping[str, str] = {}
    body: bytes = b""


def tls_context(*, verify: bool | str = True, client_cert: str | tuple[str, str] | None = None) -> ssl.SSLContext:
    """TLS settings as clouds.yaml has them: `verify` is False or a CA file, `client_cert` one file or (cert, key).

    Raises Invalid when a file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
        if client_cert is not None:
            context.load_cert_chain(*((client_cert,) if isinstance(client_cert, str) else client_cert))
    except (OSError, ssl.SSLError) as error:
        raise Invalid(f"the cloud's certificate files cannot be used: {error}") from error
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def encode(request: Request, origin: Origin, target: str) -> bytes:
    """The bytes on the wire. Raises Invalid for a target or a header value that would break the framing."""
    if _UNSAFE_TARGET.search(target) or any(_UNSAFE_VALUE.search(value) for value in request.headers.values()):
        raise Invalid("a request must not have blanks or line breaks in its address, or line breaks in its headers")
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    lines = [f"{request.method} {target} HTTP/1.1", f"Host: {host}:{origin.port}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    if request.body or request.method in ("POST", "PUT"):
        lines.append(f"Content-Length: {len(request.body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + request.body


class HttpClient:
    """Sends requests over a pool of connections per origin; the caller bounds how many are in flight."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._tls = tls
        self._idle: dict[Origin, deque[tuple[float, Connection]]] = {}
        self._opened = 0

    @property
    def connections_opened(self) -> int:
        """How many connections were opened so far."""
        return self._opened

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all idle connections."""
        for waiting in self._idle.values():
            for _, connection in waiting:
                connection.close()
        self._idle.clear()

    async def send(self, request: Request, *, timeout_s: float = 60.0) -> Response:
        """Send one request and wait for the whole response, whatever its status.

        Raises Invalid for a URL that is none, Transient when there is no connection, no answer in time, or half of one.
        Cost: one write and one read for small messages, plus a connection if none is idle.
        """
        origin, target = _split(request.url)
        data = encode(request, origin, target)
        connection: Connection | None = None
        try:
            async with asyncio.timeout(timeout_s):
                connection = self._take(origin) or await self._open(origin)
                response = await connection.send(data)
        except TimeoutError as error:
            raise Transient(f"no answer within {timeout_s:g} s", code="client.timeout") from error
        finally:
            if connection is not None:
                self._give_back(origin, connection)
        return response

    def _take(self, origin: Origin) -> Connection | None:
        waiting = self._idle.get(origin)
        while waiting:
            since, connection = waiting.pop()  # the one used last: the others may age and go
            if connection.reusable and self._loop.time() - since < MAX_IDLE_S:
                return connection
            connection.close()
        return None

    def _give_back(self, origin: Origin, connection: Connection) -> None:
        if connection.reusable:
            self._idle.setdefault(origin, deque()).append((self._loop.time(), connection))
        else:
            connection.close()

    async def _open(self, origin: Origin) -> Connection:
        tls = (self._tls or ssl.create_default_context()) if origin.scheme == "https" else None
        self._opened += 1
        try:
            _, connection = await self._loop.create_connection(
                lambda: Connection(self._loop), origin.host, origin.port, ssl=tls
            )
        except (OSError, UnicodeError) as error:  # the latter for what cannot be a host's name
            raise Transient(f"no connection to {origin.host}:{origin.port}: {error}", code="client.connect") from error
        return connection


def _split(url: str) -> tuple[Origin, str]:
    """The origin and the request target of an absolute http or https URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise Invalid(f"not a URL: {url}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Invalid(f"not an http or https URL: {url}")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Origin(parts.scheme, parts.hostname, port), target
