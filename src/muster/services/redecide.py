"""Deciding again when what a decision was based on has changed meanwhile (optimistic concurrency), or has gone.

Not a retry in a storm: it happens only when a lock was lost, another worker claimed the last of a host, or the database
broke off, and only the decision is made again, once for all requests of a batch, with a fresh picture. Whoever decides
again after the database broke off first waits until it is back (`store.presence`), not longer than a client would.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial, wraps
from random import SystemRandom
from typing import Any, ParamSpec, TypeVar

from muster.base.errors import Away, Stale, Transient
from muster.base.log import get_logger
from muster.base.metrics import REDECIDED
from muster.store.engine import Violation
from muster.store.violations import FOREIGN_KEY

log = get_logger(__name__)

Asked = ParamSpec("Asked")
Item = TypeVar("Item")
Result = TypeVar("Result")

_ROUNDS = 10
# A database that takes connections and breaks them off again is tried for this long.
_PATIENCE_S = 20.0
_FIRST_PAUSE_S = 0.02
_LAST_PAUSE_S = 1.0

_rng = SystemRandom()


async def redeciding(what: str, decide: Callable[[], Awaitable[Result]]) -> Result:
    """The result of `decide`, called again each time it raises Stale or Away.

    Raises Transient after ten rounds that were Stale, or when the database stays away; Away when it is there but goes
    away in the middle again and again.
    """
    stale, pause_s, until = 0, _FIRST_PAUSE_S, time.monotonic() + _PATIENCE_S
    while True:
        began = time.monotonic()
        try:
            return await decide()
        except Stale as error:
            stale += 1
            if stale == _ROUNDS:
                raise Transient(f"Too much changed at once ({what})", retry_after_s=1.0) from error
            _note(what, error.message)
        except Away as error:
            if began >= until:
                raise
            _note(what, error.message)
            await asyncio.sleep(pause_s * _rng.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)


def redecided(what: str, decide: Callable[[Item], Awaitable[Result]]) -> Callable[[Item], Awaitable[Result]]:
    """`decide`, each call of which is `redeciding`: for coalescers whose batches change one thing or only read."""

    async def decided(item: Item) -> Result:
        return await redeciding(what, lambda: decide(item))

    return decided


def redeciding_calls(
    what: str,
) -> Callable[[Callable[Asked, Awaitable[Result]]], Callable[Asked, Coroutine[Any, Any, Result]]]:
    """A decorator of what is one write transaction and nothing else: each call of it is `redeciding`.

    What is slow, or has effects outside of the database, goes before or after it.
    """

    def decorated(decide: Callable[Asked, Awaitable[Result]]) -> Callable[Asked, Coroutine[Any, Any, Result]]:
        @wraps(decide)
        async def decided(*args: Asked.args, **kwargs: Asked.kwargs) -> Result:
            return await redeciding(what, partial(decide, *args, **kwargs))

        return decided

    return decorated


def seeing_what_went(decide: Callable[[], Awaitable[Result]]) -> Callable[[], Awaitable[Result]]:
    """`decide`, but where a foreign key refuses, something that is referred to has just gone: raises Stale, and who
    decides again sees it. Of a batch, only the one that named it is then refused."""

    async def decided() -> Result:
        try:
            return await decide()
        except Violation as error:
            if error.constraint == FOREIGN_KEY:
                raise Stale("What is referred to is gone") from error
            raise

    return decided


def _note(what: str, why: str) -> None:
    REDECIDED.labels(what).inc()
    log.warning("deciding again", action="redecide", what=what, why=why)
