"""An image's file over HTTP, with a ticket: for hosts, and for control machines that fetch from each other.

Invariants: memory does not grow with the image; no more is taken than it should have, and a little; a connection on
which nothing comes is given up after a while; one that breaks is taken up where it broke, as long as it brings
something. Redirections are not followed. What arrives is not judged here: who asked for it checks size and digest.
"""

import asyncio
import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Protocol
from urllib.parse import urlsplit

from muster.base.errors import Invalid, NotFound, Transient
from muster.base.log import get_logger
from muster.base.units import MIB

TICKET = "X-Image-Ticket"
#: The URL of the control machine that asks: it is answered from the file that is there, or not at all.
HOLDER = "X-Image-Holder"
_CHUNK_BYTES = MIB
# How often in a row a connection may break without having brought anything.
_TRIES = 3
_PAUSE_S = 0.5
_AGAIN_S = 5.0

log = get_logger(__name__)


class Refused(Exception):
    """The ticket is no good."""


class Sink(Protocol):
    """Where a download is written, by one thread."""

    def tell(self) -> int:
        """How many bytes it has."""
        ...

    def put(self, data: bytes) -> None:
        """Append."""
        ...

    def restart(self) -> None:
        """Forget all that it has."""
        ...


class ImageServer:
    """Who has images, by URL as in `http://host:8774`; TLS by the system's authorities. Raises Invalid."""

    def __init__(self, url: str, *, silence_s: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Invalid("Images come from a URL such as http://host:8774")
        self._host, self._port = parts.hostname, parts.port
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._silence_s = silence_s
        self._path = parts.path.rstrip("/") + "/hosts/images/"

    def path(self, image_id: str) -> str:
        """Where it has an image."""
        return self._path + image_id

    def connection(self) -> http.client.HTTPConnection:
        """A connection that is not open yet."""
        if self._tls is not None:
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._silence_s, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._silence_s)


class Download:
    """One image of `size_bytes` on its way. `run` blocks; `stop` may be called from elsewhere.

    `headers` are asked for once per connection: a ticket may expire while an image is long.
    """

    def __init__(
        self, server: ImageServer, image_id: str, size_bytes: int, headers: Callable[[], Mapping[str, str]]
    ) -> None:
        self._server = server
        self._image_id = image_id
        self._size_bytes = size_bytes
        self._headers = headers
        self._stopped = threading.Event()
        self._socket: socket.socket | None = None

    def stop(self) -> None:
        """`run` ends at once, or when its connection comes to be or not to be."""
        self._stopped.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def run(self, sink: Sink) -> None:
        """Raises Refused, NotFound, Transient, and what `sink` raises. After `stop`, ends without what is missing."""
        failures = 0
        while not self._stopped.is_set():
            before = sink.tell()
            try:
                self._go_on(sink)
                return
            except (OSError, http.client.HTTPException) as error:
                failures = 0 if sink.tell() > before else failures + 1
                if failures >= _TRIES:
                    why = f"image {self._image_id} cannot be fetched: {error!r}"
                    raise Transient(why, retry_after_s=_AGAIN_S) from error
                log.warning("a download broke off", action="image.broken", image=self._image_id, error=repr(error))
                self._stopped.wait(_PAUSE_S)

    def _go_on(self, sink: Sink) -> None:
        """One request for what is missing. Raises what went wrong with the connection as it is."""
        connection = self._server.connection()
        try:
            start = sink.tell()
            headers = {**self._headers(), **({"Range": f"bytes={start}-"} if start else {})}
            connection.connect()
            self._socket = connection.sock
            if self._stopped.is_set():  # `stop` may have found no socket to shut
                return
            connection.request("GET", self._server.path(self._image_id), headers=headers)
            response = connection.getresponse()
            self._check(response, start)
            if response.status == http.client.OK and start:  # ranges are not offered: from the beginning, then
                sink.restart()
            self._receive(response, sink)
        finally:
            connection.close()

    def _check(self, response: http.client.HTTPResponse, start: int) -> None:
        """Raises HTTPException for an answer that was cut off in its head: http.client takes that for a whole one."""
        match response.status:
            case http.client.FORBIDDEN:
                raise Refused
            case http.client.NOT_FOUND:
                raise NotFound(f"image {self._image_id} has no file")
            case http.client.OK | http.client.PARTIAL_CONTENT:
                pass
            case status:
                raise Transient(f"image {self._image_id} cannot be fetched: status {status}", retry_after_s=_AGAIN_S)
        is_part = response.status == http.client.PARTIAL_CONTENT
        if is_part and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise http.client.HTTPException("another range than asked for")
        if response.length is None:
            raise http.client.HTTPException("no length")

    def _receive(self, response: http.client.HTTPResponse, sink: Sink) -> None:
        while not self._stopped.is_set() and sink.tell() <= self._size_bytes:
            data = response.read1(_CHUNK_BYTES)
            if not data:
                break
            sink.put(data)
        if response.length and sink.tell() < self._size_bytes and not self._stopped.is_set():
            raise http.client.IncompleteRead(b"", response.length)


async def in_its_thread(download: Download, work: Callable[[], None], executor: Executor | None = None) -> None:
    """Do `work`, which runs the download, in a thread. Ends soon after it is cancelled, with its thread.

    Raises what `work` raises.
    """
    running = asyncio.get_running_loop().run_in_executor(executor, work)
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        download.stop()
        with contextlib.suppress(Exception):
            await running
        raise
