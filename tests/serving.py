"""An application on a real socket, within the test's process."""

import asyncio
import socket
from asyncio.trsock import TransportSocket
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.types import ASGIApp


async def accepting_no_more(*listeners: socket.socket | TransportSocket) -> None:
    """Nothing more is accepted from these, and what was accepted has come to be a connection of its server.

    A server that is closed in between forgets it: nobody closes its socket, until the collector finds it and complains
    in the middle of another test.
    """
    loop = asyncio.get_running_loop()
    for listener in listeners:
        loop.remove_reader(listener.fileno())
    for _ in range(5):  # it does so in the loop's next turns
        await asyncio.sleep(0)


async def ended(server: asyncio.Server, writers: Iterable[asyncio.StreamWriter]) -> None:
    """The server is closed and none of its connections is open any more, those among them that nobody has seen yet.

    `writers`: of the connections that are known; it may grow meanwhile.
    """
    await accepting_no_more(*server.sockets)
    server.close()
    async with asyncio.timeout(300):
        while _open(server):
            for writer in writers:
                writer.transport.abort()
            await asyncio.sleep(0.002)


def _open(server: asyncio.Server) -> bool:
    """Python 3.12 waits for them in `Server.wait_closed`; 3.11 only counts."""
    return bool(server._clients if hasattr(server, "_clients") else server._active_count)  # type: ignore[attr-defined]


class _Server(uvicorn.Server):
    """Leaves the process's signal handlers alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(application: ASGIApp) -> AsyncIterator[str]:
    """The base URL, on a free loopback port, where the application is served while the block runs."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        config = uvicorn.Config(application, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        server = _Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            await accepting_no_more(listener)
            server.should_exit = True
            await task
