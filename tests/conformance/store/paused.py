"""A worker that stands still in the middle of a transaction."""

import asyncio
from typing import Any

from muster.base.clock import system_clock
from muster.services.outbox import Outbox, Telling
from muster.store.engine import Connection


class Paused(Outbox):
    """Keeps the first transaction that tells of something by `step`, a method of Telling, waiting until `go`: after
    it, or `before`."""

    def __init__(self, step: str, *, before: bool = False) -> None:
        super().__init__(system_clock)
        self.reached = asyncio.Event()
        self.go = asyncio.Event()
        self._step = step
        self._before = before

    def begin(self, connection: Connection) -> Telling:
        telling = super().begin(connection)
        told = getattr(telling, self._step)

        async def told_later(*arguments: Any, **named: Any) -> None:
            if not self._before:
                await told(*arguments, **named)
            if not self.reached.is_set() and any((*arguments, *named.values())):
                self.reached.set()
                await self.go.wait()
            if self._before:
                await told(*arguments, **named)

        setattr(telling, self._step, told_later)
        return telling
