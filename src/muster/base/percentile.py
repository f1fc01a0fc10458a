"""Percentiles by nearest rank, as everything that measures here understands them."""

from collections.abc import Sequence


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The nearest-rank percentile of ascending values: the smallest that `percent` % of them do not exceed."""
    return ordered[max(0, -(-percent * len(ordered) // 100) - 1)]
