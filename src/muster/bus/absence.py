"""When what is at the other end was last away: who was silent then may have spoken."""

from muster.base.clock import Clock

# One that comes back for less than this was not back: those who speak have not all found it again.
_BACK_FOR_S = 60.0


class Absence:
    """The last time of being away, times that follow each other closely taken for one. `clock` is monotonic, in s."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began: float | None = None
        self._ended: float | None = None

    def begin(self) -> None:
        """It is away. Nothing if it was."""
        if self._began is not None and self._ended is None:
            return
        now = self._clock()
        if self._ended is None or now - self._ended >= _BACK_FOR_S:
            self._began = now
        self._ended = None

    def end(self) -> None:
        """It is there. Nothing if it was."""
        if self._began is not None and self._ended is None:
            self._ended = self._clock()

    def began_s(self, since_s: float) -> float:
        """How long ago it began, if it lasts, or ended less than `since_s` ago; else 0."""
        now = self._clock()
        if self._began is None or (self._ended is not None and now - self._ended >= since_s):
            return 0.0
        return now - self._began
