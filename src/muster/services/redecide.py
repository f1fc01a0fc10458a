"""Deciding again when what a decision was based on has changed meanwhile (optimistic concurrency).

Not a retry in a storm: it happens only when a lock was lost or another worker claimed the last of a host, and only the
decision is made again, at once, with a fresh picture.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from muster.base.errors import Stale, Transient
from muster.base.log import get_logger
from muster.base.metrics import REDECIDED

log = get_logger(__name__)

Result = TypeVar("Result")

_ROUNDS = 10


async def redeciding(what: str, decide: Callable[[], Awaitable[Result]]) -> Result:
    """The result of `decide`, called again each time it raises Stale. Raises Transient after ten rounds."""
    for _ in range(_ROUNDS):
        try:
            return await decide()
        except Stale as error:
            REDECIDED.labels(what).inc()
            log.warning("deciding again", action="redecide", what=what, why=error.message)
    raise Transient(f"Too much changed at once ({what})", retry_after_s=1.0)
