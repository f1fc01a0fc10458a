"""How a run tells its progress to whoever shows it."""

from typing import Protocol

from muster.fit.records import Step


def in_words(guests: int) -> str:
    """`1 guest`, `2 guests`."""
    return f"{guests} guest{'' if guests == 1 else 's'}"


class Observer(Protocol):
    """Called in the run's event loop; must return at once and must not raise."""

    def says(self, text: str) -> None:
        """What the run is doing now."""

    def tries(self, guests: int) -> None:
        """So many guests are tried next."""

    def counts(self, what: str, done: int, total: int) -> None:
        """So much of what is going on is done."""

    def found(self, step: Step) -> None:
        """One try is over."""

    def left(self, what: str) -> None:
        """Something could not be removed. Told also when the run is interrupted and has no result."""


class SilentObserver:
    """Shows nothing."""

    def says(self, text: str) -> None: ...

    def tries(self, guests: int) -> None: ...

    def counts(self, what: str, done: int, total: int) -> None: ...

    def found(self, step: Step) -> None: ...

    def left(self, what: str) -> None: ...
