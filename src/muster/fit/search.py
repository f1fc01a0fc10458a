"""Which number of guests to try next: up in steps until the bound breaks, then by halves down to the last that holds.

Pure. Measures are noisy, so a number that breaks the bound is tried again, and the majority of up to three counts; the
one that is recommended has held once more after there were too many. Invariant: it ends, since no number is tried more
often than `MOST_TRIES` times.
"""

from collections.abc import Sequence

MOST_TRIES = 3


class Search:
    """Tell it what held and what broke with `add`; ask it with `next`. `most` is the highest number worth trying."""

    def __init__(self, start: int, step: int, most: int) -> None:
        self._start, self._step, self._most = min(start, most), step, most
        self._tries: dict[int, list[bool]] = {}
        self._ruled_out: int | None = None
        self._last = 0

    def add(self, guests: int, *, within: bool) -> None:
        """With so many guests the bound held, or broke."""
        self._tries.setdefault(guests, []).append(within)
        self._last = guests

    def rule_out(self, guests: int) -> None:
        """So many cannot be had at all: this number and any above are not tried again."""
        self._ruled_out = min(guests, self._ruled_out or guests)
        self._last = guests

    @property
    def best(self) -> int:
        """The highest number that held below all that broke; 0: none did."""
        broken = self._broken()
        held = (guests for guests, tries in self._tries.items() if verdict(tries) is True)
        return max((guests for guests in held if broken is None or guests < broken), default=0)

    @property
    def hit_most(self) -> bool:
        """Whether the search ended at the highest number that it was allowed, without anything that broke."""
        return self._broken() is None and self.best == self._most

    def next(self) -> int | None:
        """The number to try now; None when nothing is left to find out."""
        undecided = [guests for guests, tries in self._tries.items() if verdict(tries) is None]
        if possible := [guests for guests in undecided if self._ruled_out is None or guests < self._ruled_out]:
            return min(possible)
        best, broken = self.best, self._broken()
        if broken is None:
            if best == self._most:
                return None
            return min(best + self._step, self._most) if best else self._start
        if broken - best > 1:
            return (best + broken) // 2
        needs_another_look = best and self._last != best and len(self._tries[best]) < MOST_TRIES
        return best if needs_another_look else None

    def _broken(self) -> int | None:
        """The lowest number that broke, or that cannot be had."""
        found = [guests for guests, tries in self._tries.items() if verdict(tries) is False]
        if self._ruled_out is not None:
            found.append(self._ruled_out)
        return min(found, default=None)


def verdict(tries: Sequence[bool]) -> bool | None:
    """Whether a number holds: at once if it does, by the majority of three if it once did not. None: try again."""
    held, broke = sum(tries), len(tries) - sum(tries)
    if len(tries) >= MOST_TRIES:
        return held > broke
    if not broke:
        return True
    return False if broke > 1 else None
