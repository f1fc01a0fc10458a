"""What processes that run until they are told to end have in common."""

import asyncio
import gc
import signal
from collections.abc import Coroutine
from typing import Any

# New objects before a look at the youngest, and how many of those before a look at the older and at all.
_GC_THRESHOLDS = (20_000, 20, 20)


def spare_the_garbage_collector() -> None:
    """Look for cycles less often, and never among what the start has made.

    With Python's defaults a quarter of the CPU of 2,000 concurrent creations went into looking: thousands of requests
    are in flight, each look at the old ones finds nothing, and almost all of it is freed without being looked for.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


async def until_interrupted(work: Coroutine[Any, Any, None]) -> None:
    """Do the work, until SIGTERM or SIGINT ends it in order. Another one meanwhile changes nothing."""
    task = asyncio.ensure_future(work)
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, interrupt)
    try:
        await task
    except asyncio.CancelledError:
        if not interrupted:
            raise
