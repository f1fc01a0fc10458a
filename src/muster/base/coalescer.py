"""Batches without a timer: what arrives while one batch is in flight becomes the next batch.

When idle, an item is served at once and alone; when busy, batches grow by themselves, so N concurrent requests cost a
handful of transactions, locks and messages instead of N. At most one batch is in flight per coalescer, so whatever it
guards has at most one waiter per process.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Generic, TypeVar

from muster.base.errors import Bug, Transient
from muster.base.metrics import BATCH_ITEMS, BATCH_SECONDS, QUEUE_ITEMS, QUEUE_SECONDS

# So often the loop goes round at most before a first batch.
_TURNS = 50

Item = TypeVar("Item")
Result = TypeVar("Result")

# What the function given to a coalescer returns: for each item, in order, its result or the error of that item alone.
Outcomes = Sequence[Result | BaseException]


class Coalescer(Generic[Item, Result]):
    """Stands in front of one shared thing and hands it all that waits, at once."""

    def __init__(
        self,
        run: Callable[[list[Item]], Awaitable[Outcomes[Result]]],
        *,
        name: str,
        max_batch: int = 5_000,
        max_waiting: int = 100_000,
    ) -> None:
        self._run = run
        self._name = name
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._waiting: dict[asyncio.Future[Result], tuple[Item, float]] = {}
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Result:
        """The result of `item`, which shares its batch with whatever else waits.

        Raises the item's own error; the batch's error, when the batch as a whole failed; Transient when more than
        `max_waiting` items wait already. A caller that is cancelled while waiting leaves the queue; once its batch is
        in flight, the batch goes on without it.
        """
        if len(self._waiting) >= self._max_waiting:
            raise Transient(f"{self._name}: too many requests are waiting", retry_after_s=2.0)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting[future] = (item, time.monotonic())
        if self._worker is None:
            self._worker = asyncio.create_task(self._work(), name=f"coalescer {self._name}")
        try:
            return await future
        finally:
            self._waiting.pop(future, None)  # a cancelled caller leaves

    async def _work(self) -> None:
        await self._gather()
        try:
            while batch := self._take():
                await self._serve(batch)
        finally:
            self._worker = None
            # Only the end of the process leaves somebody waiting here; nobody would serve them any more.
            for future in self._waiting:
                if not future.done():
                    future.set_exception(_ending())

    async def _gather(self) -> None:
        """Let the loop go round for as long as each turn brings more: what of a burst is there already is one batch.

        The loop reads requests from their sockets some at a time; who comes alone waits for one turn.
        """
        before = 0
        for _ in range(_TURNS):
            if len(self._waiting) <= before:
                return
            before = len(self._waiting)
            await asyncio.sleep(0)

    def _take(self) -> list[tuple[Item, asyncio.Future[Result], float]]:
        alive = ((future, entry) for future, entry in self._waiting.items() if not future.done())
        batch = [(item, future, since) for future, (item, since) in islice(alive, self._max_batch)]
        for _, future, _ in batch:
            del self._waiting[future]
        return batch

    async def _serve(self, batch: list[tuple[Item, asyncio.Future[Result], float]]) -> None:
        began = time.monotonic()
        BATCH_ITEMS.labels(self._name).observe(len(batch))
        QUEUE_ITEMS.labels(self._name).set(len(self._waiting))
        QUEUE_SECONDS.labels(self._name).observe(began - batch[0][2])
        try:
            outcomes = await self._run([item for item, _, _ in batch])
            if len(outcomes) != len(batch):
                raise Bug(f"{self._name}: {len(batch)} items gave {len(outcomes)} outcomes")
        except BaseException as error:
            for _, future, _ in batch:
                if not future.done():
                    future.set_exception(error if isinstance(error, Exception) else _ending())
            if not isinstance(error, Exception):
                raise
        else:
            for (_, future, _), outcome in zip(batch, outcomes, strict=True):
                _settle(future, outcome)
        finally:
            BATCH_SECONDS.labels(self._name).observe(time.monotonic() - began)


def _ending() -> Transient:
    return Transient("shutting down")


def _settle(future: "asyncio.Future[Result]", outcome: Result | BaseException) -> None:
    if future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
