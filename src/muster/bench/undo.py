"""What a run made and has to remove again, in reverse order; what cannot be removed is told, never hidden.

Invariant: an entry is pushed before the request that makes the thing, under the name that it will have, so that a lost
answer leaves nothing behind.
"""

from collections.abc import Awaitable, Callable

import msgspec

from muster.base.errors import MusterError, NotFound
from muster.bench.observer import Observer
from muster.bench.records import Leftover

Removal = Callable[[], Awaitable[None]]


class Made(msgspec.Struct, frozen=True):
    """One thing: its kind, its id or name, and how to remove it. The removal raises MusterError when it cannot."""

    kind: str
    id: str
    remove: Removal


class Undo:
    """A stack of things made."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._made: list[Made] = []
        self.leftovers: list[Leftover] = []

    def push(self, kind: str, name: str, remove: Removal) -> None:
        """Note that `remove` undoes what is made next, or was made just now."""
        self._made.append(Made(kind, name, remove))

    def names(self) -> list[str]:
        """What was made, for a run that keeps it."""
        return [f"{made.kind} {made.id}" for made in self._made]

    def left(self, kind: str, name: str, reason: str) -> None:
        """Note something that could not be removed."""
        leftover = Leftover(kind, name, reason)
        self.leftovers.append(leftover)
        self._observer.left(leftover)

    async def run(self) -> None:
        """Remove everything; a failure is noted and does not stop the rest."""
        while self._made:
            made = self._made[-1]
            try:
                await made.remove()
            except NotFound:
                pass
            except MusterError as error:
                self.left(made.kind, made.id, error.message)
            self._made.pop()
