"""Images from the control plane over HTTP, with a ticket for each.

Invariants: memory does not grow with the image; a connection on which nothing comes is given up after a while; one that
breaks is taken up where it broke, as long as it brings something. What arrives is not judged here: `images.ImageCache`
checks size and digest.
"""

import asyncio
import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from muster.base.errors import Invalid, NotFound, Transient
from muster.base.log import get_logger
from muster.base.units import MIB
from muster.domain.specs import ImageSpec
from muster.host.image_tickets import ImageTickets

TICKET = "X-Image-Ticket"
_CHUNK_BYTES = MIB
# How often in a row a connection may break without having brought anything.
_TRIES = 3
_PAUSE_S = 0.5
_AGAIN_S = 5.0

log = get_logger(__name__)


class _Refused(Exception):
    """The ticket is no good."""


class HttpImageSource:
    """`api_url` as in `http://host:8774`; TLS by the system's authorities. Each fetch works in a thread of its own."""

    def __init__(self, api_url: str, tickets: ImageTickets, *, silence_s: float = 30.0) -> None:
        parts = urlsplit(api_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Invalid("Images come from a URL such as http://host:8774")
        self._host, self._port = parts.hostname, parts.port
        self._path = parts.path.rstrip("/") + "/hosts/images/"
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._tickets = tickets
        self._silence_s = silence_s

    async def fetch(self, image: ImageSpec, target: Path) -> None:
        """Write the image to `target`. Raises NotFound; Transient, also while a good ticket is still to come; OSError.

        Ends soon after it is cancelled, with its thread.
        """
        ticket = self._tickets.get(image.id)
        if ticket is None:
            raise Transient(f"image {image.id} waits for its ticket", retry_after_s=1.0)
        download = _Download(self._connection, self._path + image.id, ticket)
        work = asyncio.ensure_future(asyncio.to_thread(download.run, image, target))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            download.stop()
            with contextlib.suppress(Exception):
                await work
            raise
        except _Refused as error:
            self._tickets.refused(image.id, ticket)
            raise Transient(f"image {image.id} waits for a new ticket", retry_after_s=_AGAIN_S) from error

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._silence_s, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._silence_s)


class _Download:
    """One image on its way. `run` blocks; `stop` may be called from elsewhere."""

    def __init__(self, connect: Callable[[], http.client.HTTPConnection], path: str, ticket: str) -> None:
        self._connect = connect
        self._path = path
        self._ticket = ticket
        self._stopped = threading.Event()
        self._socket: socket.socket | None = None

    def stop(self) -> None:
        """`run` ends at once, or when its connection comes to be or not to be."""
        self._stopped.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def run(self, image: ImageSpec, target: Path) -> None:
        """Raises _Refused, NotFound, Transient, OSError (of the disk)."""
        failures = 0
        with target.open("wb") as file:
            while not self._stopped.is_set():
                before = file.tell()
                try:
                    self._go_on(image, file)
                    return
                except (OSError, http.client.HTTPException) as error:
                    failures = 0 if file.tell() > before else failures + 1
                    if failures >= _TRIES:
                        why = f"image {image.id} cannot be fetched: {error!r}"
                        raise Transient(why, retry_after_s=_AGAIN_S) from error
                    log.warning("a download broke off", action="image.broken", image=image.id, error=repr(error))
                    self._stopped.wait(_PAUSE_S)

    def _go_on(self, image: ImageSpec, file: BinaryIO) -> None:
        """One request for what is missing. Raises what went wrong with the connection as it is."""
        connection = self._connect()
        try:
            start = file.tell()
            headers = {TICKET: self._ticket} | ({"Range": f"bytes={start}-"} if start else {})
            connection.connect()
            self._socket = connection.sock
            connection.request("GET", self._path, headers=headers)
            response = connection.getresponse()
            self._check(image, response, start)
            if response.status == http.client.OK and start:  # ranges are not offered: from the beginning, then
                file.seek(0)
                file.truncate()
            self._receive(image, response, file)
        finally:
            connection.close()

    def _check(self, image: ImageSpec, response: http.client.HTTPResponse, start: int) -> None:
        """Raises HTTPException for an answer that was cut off in its head: http.client takes that for a whole one."""
        match response.status:
            case http.client.FORBIDDEN:
                raise _Refused
            case http.client.NOT_FOUND:
                raise NotFound(f"image {image.id} has no file")
            case http.client.OK | http.client.PARTIAL_CONTENT:
                pass
            case status:
                raise Transient(f"image {image.id} cannot be fetched: status {status}", retry_after_s=_AGAIN_S)
        is_part = response.status == http.client.PARTIAL_CONTENT
        if is_part and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise http.client.HTTPException("another range than asked for")
        if response.length is None:
            raise http.client.HTTPException("no length")

    def _receive(self, image: ImageSpec, response: http.client.HTTPResponse, file: BinaryIO) -> None:
        while not self._stopped.is_set() and file.tell() <= image.size_bytes:
            data = response.read1(_CHUNK_BYTES)
            if not data:
                break
            file.write(data)
        if response.length and file.tell() < image.size_bytes and not self._stopped.is_set():
            raise http.client.IncompleteRead(b"", response.length)
