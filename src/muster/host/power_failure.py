"""How the agent hears that all guests have ended at once, as when their host's power fails."""

from collections.abc import Callable


class PowerFailure:
    """Told by who looks after what guests run under, heard by the agent. May be used from one event loop only."""

    def __init__(self) -> None:
        self._hear: Callable[[], None] = lambda: None

    def heard_by(self, hear: Callable[[], None]) -> None:
        """`hear` is called when it has happened."""
        self._hear = hear

    def tell(self) -> None:
        """It has happened. To be said before anybody can see that the guests are down."""
        self._hear()
