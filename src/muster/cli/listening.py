"""An application on a socket, and how it stops: nobody who has connected is sent away without an answer.

While it drains, nothing new is accepted; what is being answered is answered; a connection that has asked nothing yet,
or nothing for the moment, still may, and is told to close (`Connection: close`) with the answer. One that stays silent
is closed after a moment.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import click
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

BACKLOG = 4096
# How often the Date of answers is set anew.
_TICK_S = 1.0
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
    application: ASGIApp, listener: socket.socket, drain_s: float, keep_alive_s: int = 30
) -> AsyncIterator[asyncio.Task[None]]:
    """The application is served meanwhile; at the end, what is being answered gets up to `drain_s`.

    A connection without a request is kept for `keep_alive_s` after its last answer.
    """
    draining = asyncio.Event()
    config = uvicorn.Config(
        application,
        http=partial(_Protocol, draining),  # type: ignore[arg-type] # called as a class is
        lifespan="off",
        access_log=False,
        log_level="error",
        backlog=BACKLOG,
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=drain_s,  # type: ignore[arg-type] # handed to asyncio, which takes fractions
    )
    listener.listen(BACKLOG)
    server = _Server(config, draining)
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

    def __init__(self, config: uvicorn.Config, draining: asyncio.Event) -> None:
        super().__init__(config)
        self._draining = draining
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        """Stop serving."""
        self.should_exit = True
        self._leaving.set()

    async def main_loop(self) -> None:
        """As uvicorn's, which looks ten times a second whether it should end: a fifth of what an idle process costs."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), _TICK_S)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._draining.set()
        await super().shutdown(sockets)


class _Protocol(HttpToolsProtocol):
    """A connection of a server that drains as the module says."""

    def __init__(self, draining: asyncio.Event, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._draining = draining

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._draining.is_set():  # accepted just before
            self.shutdown()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self._draining.is_set():
            self.cycle.keep_alive = False

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
