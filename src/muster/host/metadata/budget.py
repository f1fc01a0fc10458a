"""How often a guest may ask. It is answered by the agent's own event loop, which has other things to do.

Invariant: what is remembered is bounded, whatever sources there are.
"""

from collections.abc import Callable

#: A guest's boot asks some hundred times in a row. From then on so often a second is more than any asks for long.
BURST = 1_000
PER_S = 50.0
_REMEMBERED = 10_000


class Budgets:
    """One for each source; of those that asked, the latest are remembered."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._left: dict[str, tuple[float, float]] = {}  # how much, at which moment; who asked last stands last

    def take(self, source: str) -> bool:
        """Whether this source may ask once more now."""
        now_s = self._now()
        left, at_s = self._left.pop(source, (BURST, now_s))
        left = min(BURST, left + (now_s - at_s) * PER_S)
        may_ask = left >= 1
        self._left[source] = (left - may_ask, now_s)
        if len(self._left) > _REMEMBERED:
            del self._left[next(iter(self._left))]
        return may_ask
