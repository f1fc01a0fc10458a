"""Looks at the hypervisor for the reconciler: one look at a time, and what asks for another meanwhile shares the next.

Invariant: a look that was asked for happens, however often the hypervisor is away before it.
"""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from muster.base.errors import Transient
from muster.base.log import get_logger
from muster.host.agenda import Agenda, Entry
from muster.host.complaint import Complaint
from muster.host.ports import Guest, Hypervisor

_AWAY_S = 1.0
_BROKEN_S = 5.0

# Takes what was seen, or None where nothing could be.
Take = Callable[[Mapping[str, Guest] | None], None]


class Lookout:
    """Kept by the reconciler. `begin` is called when a look begins, and returns who takes what is seen; `spawn` runs a
    look, or, once all is over, does not. A look that nobody is waiting for begins after `delay_s`."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        agenda: Agenda,
        *,
        begin: Callable[[], Take],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        delay_s: float,
    ) -> None:
        self._hypervisor = hypervisor
        self._agenda = agenda
        self._begin = begin
        self._spawn = spawn
        self._delay_s = delay_s
        self._entry: Entry | None = None
        self._looking = self._again = False
        self._blind = Complaint()

    def look(self, delay_s: float | None = None) -> None:
        """Look soon; calls in between share one look."""
        if self._looking:
            self._again = True
        elif delay_s == 0.0:
            self._start()
        elif self._entry is None:
            self._entry = self._agenda.after(self._delay_s if delay_s is None else delay_s, self._start)

    def _start(self) -> None:
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None
        self._looking = True
        self._spawn(self._observe())

    async def _observe(self) -> None:
        take = self._begin()
        try:
            take(await self._hypervisor.observe())
        except Exception as error:  # whatever it is, the only cure is to look again
            if self._blind.due(self._agenda.now()):
                get_logger(__name__).warning("cannot observe", action="host.observe", error=repr(error))
            take(None)
            self._looking = self._again = False
            self.look(max(_AWAY_S, error.retry_after_s if isinstance(error, Transient) else _BROKEN_S))
            return
        if self._blind.over():
            get_logger(__name__).info("can observe again", action="host.observed")
        self._looking = False
        if self._again:
            self._again = False
            self.look()
