"""When lives begin, and what happens in one. Pure: time and randomness are passed in."""

from collections.abc import Mapping
from random import Random

from muster.soak.scenario import Scenario

# So many turns may be late and are caught up with; more are forgotten, or an outage would end in a storm.
MOST_LATE = 2


class Schedule:
    """Evenly spaced turns, given out one by one. `missed` counts those that nobody could take."""

    def __init__(self, per_min: float, start_s: float) -> None:
        self._gap_s = 60.0 / per_min if per_min else 0.0
        self._next_s = start_s
        self.missed = 0

    def turn_s(self, now_s: float) -> float:
        """The moment of the next turn, which is taken by this call; it may be past."""
        if not self._gap_s:
            return now_s
        late = int((now_s - self._next_s) / self._gap_s)
        if late > MOST_LATE:
            self.missed += late
            self._next_s += late * self._gap_s
        turn_s = self._next_s
        self._next_s += self._gap_s
        return turn_s


def activities(wanted: Scenario, rng: Random) -> list[str]:
    """What one life does between creation and deletion."""
    return drawn(wanted.weights, rng.randint(*wanted.activities), rng)


def drawn(weights: Mapping[str, float], count: int, rng: Random) -> list[str]:
    """`count` names, each as often as its weight says."""
    return rng.choices(list(weights), list(weights.values()), k=count)
