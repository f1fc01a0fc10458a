"""How long to wait between two polls: often enough to measure, seldom enough not to be what is measured."""

# A poll is followed by a pause of at least so many times its own duration: this bounds the polls' share of the cloud.
REST = 3.0
SHORTEST_S = 0.1
LONGEST_S = 1.0
# While nothing changes the pause grows by this factor, up to half a second.
GROWTH = 1.25
IDLE_LONGEST_S = 0.5
# What has been waited for for so long need not be seen earlier than this share of that time after it happened.
PRECISION = 0.01


class Pace:
    """The adaptive pause. Pure: told what happened, says how long to wait."""

    def __init__(self) -> None:
        self._idle_s = SHORTEST_S

    def reset(self) -> None:
        """Something new begins: poll often again."""
        self._idle_s = SHORTEST_S

    def gap_s(self, took_s: float, *, changed: bool, waited_s: float = 0.0) -> float:
        """The pause after a poll that took `took_s` and showed something new, or nothing.

        `waited_s`: how long ago the newest of what is waited for began.
        """
        self._idle_s = SHORTEST_S if changed else min(self._idle_s * GROWTH, IDLE_LONGEST_S)
        return min(max(self._idle_s, REST * took_s, PRECISION * waited_s), LONGEST_S)
