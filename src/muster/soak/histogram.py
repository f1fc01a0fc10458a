"""How durations are spread, in constant memory: buckets a tenth wider each, so a percentile is at most 10 % off.

Invariant: `count`, `min_s`, `max_s` and the sum are exact; histograms added up are the histogram of all values.
"""

import math

import msgspec

GROWTH = 1.1
SMALLEST_S = 0.001
_LOG = math.log(GROWTH)
# Of 86,400 s; what takes longer counts as that.
_LAST = int(math.log(86_400 / SMALLEST_S) / _LOG)


class Histogram(msgspec.Struct):
    """Durations in seconds. `buckets`: number of values by bucket, only those that have any."""

    count: int = 0
    sum_s: float = 0.0
    min_s: float = 0.0
    max_s: float = 0.0
    buckets: dict[int, int] = {}

    def add(self, value_s: float) -> None:
        """One more value."""
        bucket = min(max(int(math.log(max(value_s, SMALLEST_S) / SMALLEST_S) / _LOG), 0), _LAST)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1
        self.min_s = value_s if not self.count else min(self.min_s, value_s)
        self.max_s = max(self.max_s, value_s)
        self.sum_s += value_s
        self.count += 1

    def merge(self, other: "Histogram") -> None:
        """All values of another one."""
        if not other.count:
            return
        for bucket, number in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + number
        self.min_s = other.min_s if not self.count else min(self.min_s, other.min_s)
        self.max_s = max(self.max_s, other.max_s)
        self.sum_s += other.sum_s
        self.count += other.count

    def percentile_s(self, percent: float) -> float | None:
        """The value that `percent` % do not exceed, as the upper end of its bucket; None of nothing."""
        wanted, seen = percent * self.count / 100, 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted:
                edge_s = SMALLEST_S * GROWTH ** (bucket + 1)
                return min(max(edge_s, self.min_s), self.max_s)
        return None
