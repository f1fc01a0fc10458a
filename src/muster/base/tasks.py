"""Work that must not stop half-way."""

import asyncio
from collections.abc import Coroutine


async def to_its_end(work: Coroutine[object, object, None]) -> None:
    """Await `work` also when this task is cancelled meanwhile; the cancellation goes on afterwards.

    A second cancellation ends the waiting at once: who asks twice means it.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
