"""The metrics of a process, on a port of its own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import click
from starlette.types import Receive, Scope, Send

from muster.api.http.metrics import metrics_response
from muster.api.http.responses import Response
from muster.base.log import get_logger
from muster.cli.listening import bound, listening

log = get_logger(__name__)

_AGAIN_S = 1.0
#: A worker that is replaced has its port while it answers what it was asked: at each reload, and nobody's fault.
_TOLD_AT = 60


@contextlib.asynccontextmanager
async def metrics_served(bind: str, port: int) -> AsyncIterator[None]:
    """`GET /metrics` is answered there meanwhile, whoever asks; nothing happens for port 0.

    A port that is taken is waited for: by the process that this one replaces, most likely. After a minute it is said.
    """
    task = asyncio.create_task(_serve(bind, port), name="metrics") if port else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _serve(bind: str, port: int) -> None:
    tries = 0
    while True:
        try:
            with bound(bind, port, "Metrics are not served until it is free.") as listener:
                async with listening(_application, listener, drain_s=1.0, keep_alive_s=0):
                    await asyncio.Event().wait()
        except click.ClickException as error:
            tries += 1
            if tries == _TOLD_AT:
                log.warning(error.message, action="metrics.delayed")
            await asyncio.sleep(_AGAIN_S)


async def _application(scope: Scope, _receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        is_theirs = scope["path"] == "/metrics"
        await (metrics_response(scope) if is_theirs else Response({"message": "Not found"}, status=404)).send(send)
