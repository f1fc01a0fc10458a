"""How a run tells its progress to whoever shows it."""

from typing import Protocol

from muster.bench.options import Phase
from muster.bench.records import Leftover


class Observer(Protocol):
    """Called in the run's event loop, often; must return at once and must not raise."""

    def says(self, text: str) -> None:
        """What the run is doing now, for a status line."""

    def expects(self, phase: Phase, servers: int) -> None:
        """That many servers are to go through the phase."""

    def passed(self, phase: Phase) -> None:
        """One server has gone through the phase."""

    def failed(self, phase: Phase, reason: str) -> None:
        """One server has failed in the phase."""

    def left(self, leftover: Leftover) -> None:
        """Something could not be removed. Told also when the run is interrupted and has no result."""


class SilentObserver:
    """Shows nothing."""

    def says(self, text: str) -> None: ...

    def expects(self, phase: Phase, servers: int) -> None: ...

    def passed(self, phase: Phase) -> None: ...

    def failed(self, phase: Phase, reason: str) -> None: ...

    def left(self, leftover: Leftover) -> None: ...
