"""Serves an ASGI application on a free port of the loopback interface, and says where, as `muster up` does."""

import socket

import uvicorn
from starlette.types import ASGIApp

BACKLOG = 4096


def listening() -> tuple[socket.socket, str]:
    """A listening socket and its address."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


async def serve(application: ASGIApp, listener: socket.socket, base_url: str) -> None:
    """Serve until told to end."""
    config = uvicorn.Config(application, lifespan="off", access_log=False, log_level="error", backlog=BACKLOG)
    print(f"ready at {base_url}", flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])
