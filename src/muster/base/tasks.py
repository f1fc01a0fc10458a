"""Work that must not stop half-way, and work that must not stop at all."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TypeVar

from muster.base.errors import Transient
from muster.base.log import get_logger
from muster.base.metrics import TASK_FAILURES

log = get_logger(__name__)

T = TypeVar("T")

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_GOOD_AFTER_S = 60.0


async def to_its_end(work: Awaitable[T]) -> T:
    """Await `work` also when this task is cancelled meanwhile; the cancellation goes on afterwards.

    A second cancellation ends the waiting at once: who asks twice means it.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


async def until_told(work: Coroutine[object, object, T]) -> T:
    """Do a command's work; SIGTERM and SIGHUP end it in order, as Ctrl-C does: by a cancellation. Main thread only.

    One of them that the caller has this process ignore stays ignored: `nohup` means it.
    """
    task = asyncio.ensure_future(work)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


async def kept_running(name: str, work: Callable[[], Coroutine[object, object, None]]) -> None:
    """Run `work` for ever: when it fails, or just ends, say so and begin it anew after a pause.

    The pause doubles from half a second to 30 s, and is short again after a minute without a failure. For background
    work whose silent end would be noticed only by what does not happen any more.
    """
    loop = asyncio.get_running_loop()
    pause_s = _FIRST_PAUSE_S
    while True:
        began = loop.time()
        try:
            await work()
            log.error("background work ended", action="task.ended", task=name)
            TASK_FAILURES.labels(name).inc()
        except Transient as error:  # an engine is away, which is nobody's mistake
            log.warning("background work delayed", action="task.delayed", task=name, error=error.message)
        except Exception as error:  # whatever it is, it must not be the end
            log.error("background work failed", action="task.failed", task=name, error=repr(error), exc_info=True)
            TASK_FAILURES.labels(name).inc()
        if loop.time() - began > _GOOD_AFTER_S:
            pause_s = _FIRST_PAUSE_S
        await asyncio.sleep(pause_s)
        pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)


@asynccontextmanager
async def alongside(*works: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run these beside the block, and end them with it. One that breaks ends the block with its error.

    What breaks alone, the block or one of these, is raised as it is; several together as a group.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
    except ExceptionGroup as broken:
        if len(broken.exceptions) > 1:
            raise
        raise broken.exceptions[0] from None


async def repeating(work: Callable[[], Awaitable[object]], every_s: float) -> None:
    """Do `work` for ever, with a pause after each time. Raises what it raises."""
    while True:
        await work()
        await asyncio.sleep(every_s)
