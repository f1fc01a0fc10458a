"""An application on a socket, and how it stops: nobody who has connected is sent away without an answer.

While it drains, nothing new is accepted; what is being answered is answered; a connection that has asked nothing yet,
or nothing for the moment, still may, and is told to close (`Connection: close`) with the answer. One that stays silent
is closed after a moment.
"""

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from email.utils import formatdate
from functools import partial
from typing import Any

import click
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from muster.cli.intake import Intake

BACKLOG = 4096
# How long a connection that asks nothing stays open while all others are being answered.
_SILENT_S = 2.0


@contextlib.contextmanager
def bound(bind: str, port: int, otherwise: str) -> Iterator[socket.socket]:
    """A socket that has its address, but does not listen yet. Raises ClickException, which ends with `otherwise`."""
    with socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((bind, port))
        except OSError as error:
            raise click.ClickException(f"Cannot listen on {bind} port {port}: {error.strerror}. {otherwise}") from error
        listener.setblocking(False)
        yield listener


def url_of(listener: socket.socket) -> str:
    """Where this machine reaches what listens there."""
    address, port = listener.getsockname()[:2]
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104 - not listened on, but shown
    return f"http://{f'[{address}]' if ':' in address else address}:{port}"


@contextlib.asynccontextmanager
async def listening(
    application: ASGIApp, listener: socket.socket, drain_s: float, keep_alive_s: int = 30, at_once: int = sys.maxsize
) -> AsyncIterator[asyncio.Task[None]]:
    """The application is served meanwhile; at the end, what is being answered gets up to `drain_s`.

    A connection without a request is kept for `keep_alive_s` after its last answer. While `at_once` connections wait
    for an answer, no more are accepted (`cli.intake`).
    """
    draining, intake = asyncio.Event(), Intake(at_once)
    config = uvicorn.Config(
        application,
        http=partial(_Protocol, draining, intake, _Dating()),  # type: ignore[arg-type] # called as a class is
        lifespan="off",
        access_log=False,
        log_level="error",
        backlog=BACKLOG,
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=drain_s,  # type: ignore[arg-type] # handed to asyncio, which takes fractions
    )
    listener.listen(BACKLOG)
    server = _Server(config, draining, intake)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # uvicorn tells of its start in no other way
        yield serving
    finally:
        server.leave()
        await serving


class _Server(uvicorn.Server):
    """A server that leaves signals to the process: what follows its end must run as well."""

    def __init__(self, config: uvicorn.Config, draining: asyncio.Event, intake: Intake) -> None:
        super().__init__(config)
        self._draining = draining
        self._intake = intake
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        """Stop serving."""
        self.should_exit = True
        self._leaving.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, but for who accepts."""
        await super().startup([])
        for listener in sockets or ():
            self._intake.accept(listener, self._protocol)

    def _protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg] # as uvicorn's server calls it
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    async def main_loop(self) -> None:
        """uvicorn's own looks ten times a second whether it should end, and sets the Date of answers meanwhile."""
        await self._leaving.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._draining.set()
        self._intake.close()
        await super().shutdown([])

    async def _wait_tasks_to_complete(self) -> None:
        """As uvicorn's, for all who had connected: where files run out, some wait for what others close."""
        await self._intake.emptied()
        await super()._wait_tasks_to_complete()


class _Dating:
    """The Date of answers (RFC 9110, 6.6.1), made anew once a second at most, and only when somebody asks something."""

    def __init__(self) -> None:
        self._second = 0

    def renew(self, state: ServerState, more: list[tuple[bytes, bytes]]) -> None:
        """From now on answers have the Date of now, and `more` headers."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            state.default_headers = [(b"date", formatdate(second, usegmt=True).encode()), *more]


class _Protocol(HttpToolsProtocol):
    """A connection of a server that drains as the module says."""

    def __init__(self, draining: asyncio.Event, intake: Intake, dating: _Dating, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._draining = draining
        self._intake = intake
        self._dating = dating

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._intake.begin(self)
        if self._draining.is_set():  # accepted just before
            self.shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._intake.end(self)

    def data_received(self, data: bytes) -> None:
        self._dating.renew(self.server_state, self.config.encoded_headers)
        super().data_received(data)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._intake.begin(self)
        if self._draining.is_set():
            self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._intake.end(self)

    def shutdown(self) -> None:
        """Called once, when draining begins."""
        if self._is_silent:
            self.loop.call_later(_SILENT_S, self._close_silent)
        else:
            self.cycle.keep_alive = False

    @property
    def _is_silent(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _close_silent(self) -> None:
        if self._is_silent and not self.transport.is_closing():
            self.transport.close()
