"""Batches without a timer, among threads: what arrives while one batch is in flight becomes the next batch.

The thread that finds nobody at work serves the batch, its own request among it; then one of those who came meanwhile
serves the next. So there is no thread of its own to look after, and it works the same with native threads, with
eventlet's (after monkey patching) and in a process forked by uWSGI. At most one batch is in flight per combiner.
"""

from collections import deque
from collections.abc import Callable, Sequence
from threading import Event, Lock
from typing import Generic, TypeVar

from muster.base.errors import Bug, Transient

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Ticket(Generic[Item, Result]):
    """One request that waits; woken either with its outcome or to serve the next batch."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.woken = Event()
        self.served = False
        self.result: Result | None = None
        self.error: BaseException | None = None

    def settle(self, outcome: "Result | BaseException") -> None:
        if isinstance(outcome, BaseException):
            self.error = outcome
        else:
            self.result = outcome
        self.served = True


class Combiner(Generic[Item, Result]):
    """Stands in front of one shared thing; `run` gets all that waits, and gives an outcome for each, in order."""

    def __init__(self, run: Callable[[list[Item]], Sequence[Result | BaseException]], max_batch: int) -> None:
        self._run = run
        self._max_batch = max_batch
        self._guard = Lock()
        self._waiting: deque[_Ticket[Item, Result]] = deque()
        self._busy = False

    def submit(self, item: Item) -> Result:
        """The result of `item`. Raises its own error, or the batch's when the batch as a whole failed."""
        ticket: _Ticket[Item, Result] = _Ticket(item)
        with self._guard:
            self._waiting.append(ticket)
            first, self._busy = not self._busy, True
        if not first:
            self._wait(ticket)
        if not ticket.served:
            self._serve()
        if ticket.error is not None:
            raise ticket.error
        return ticket.result  # type: ignore[return-value]  # it is served, and without an error

    def _wait(self, ticket: _Ticket[Item, Result]) -> None:
        try:
            ticket.woken.wait()
        except BaseException:  # eventlet ends a thread so
            with self._guard:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
                    if ticket.woken.is_set():
                        self._hand_on()
            raise

    def _hand_on(self) -> None:
        """Within the guard: let the next serve, if there is one."""
        self._busy = bool(self._waiting)
        if self._waiting:
            self._waiting[0].woken.set()

    def _serve(self) -> None:
        """Serve what waits; who serves is the first of it. Then wake the others, and one to serve what came since."""
        with self._guard:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_batch))]
        try:
            outcomes = self._run([ticket.item for ticket in batch])
            if len(outcomes) != len(batch):
                raise Bug(f"{len(batch)} requests gave {len(outcomes)} outcomes")
            for ticket, outcome in zip(batch, outcomes, strict=True):
                ticket.settle(outcome)
        except BaseException as error:
            for ticket in batch:
                ticket.settle(error if isinstance(error, Exception) else Transient("The thread that served was ended"))
            if not isinstance(error, Exception):
                raise
        finally:
            for ticket in batch:
                ticket.woken.set()
            with self._guard:
                self._hand_on()
