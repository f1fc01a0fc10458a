"""Percentiles as everything that measures here understands them: of values by nearest rank, of histograms by lines."""

from collections.abc import Sequence


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The nearest-rank percentile of ascending values: the smallest that `percent` % of them do not exceed."""
    return ordered[max(0, -(-percent * len(ordered) // 100) - 1)]


def histogram_quantile(buckets: Sequence[tuple[float, float]], share: float) -> float:
    """What `share` of the values in a histogram do not exceed; 0 of an empty one.

    `buckets` are (upper bound, how many values up to it), ascending, as Prometheus counts. By straight lines within a
    bucket, as Prometheus does; the last bound where it is beyond.
    """
    if not buckets or not buckets[-1][1]:
        return 0.0
    rank = share * buckets[-1][1]
    low, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            if bound == float("inf"):
                return low
            return low + (bound - low) * (rank - below) / (count - below)
        low, below = bound, count
    return low
