"""By how much a cluster's metrics grew while something was measured."""

import msgspec

from muster.base.percentile import histogram_quantile

_DELIVERY = "muster_bus_delivery_seconds"


class Growth(msgspec.Struct, frozen=True):
    """Samples by name and labels, as Prometheus writes them: of all workers together, and of the hosts' process."""

    workers: dict[str, float]
    hosts: dict[str, float]

    def since(self, before: "Growth") -> "Growth":
        """What has been added since `before`."""
        return Growth(_grown(before.workers, self.workers), _grown(before.hosts, self.hosts))

    def total(self, name: str, **labels: str) -> float:
        """One of the workers' metrics, over all labels but these."""
        return sum(value for key, value in self.workers.items() if _is(key, name, labels))

    @property
    def to_hosts(self) -> "Times":
        """How long messages to hosts were on the bus: from publishing to reading, of the same clock."""
        return _times(self.hosts, _DELIVERY)

    @property
    def from_hosts(self) -> "Times":
        """The same for what hosts say."""
        return _times(self.workers, _DELIVERY)

    def quantile(self, name: str, share: float) -> float:
        """What that share of one of the workers' histograms does not exceed."""
        return _quantile(self.workers, name, share)


class Times(msgspec.Struct, frozen=True):
    """How times are spread, in seconds; percentiles by straight lines within a histogram's buckets."""

    mean_s: float
    p50_s: float
    p99_s: float


def _times(samples: dict[str, float], name: str) -> Times:
    mean_s = samples.get(f"{name}_sum", 0.0) / max(1.0, samples.get(f"{name}_count", 0.0))
    return Times(mean_s, _quantile(samples, name, 0.5), _quantile(samples, name, 0.99))


def _quantile(samples: dict[str, float], name: str, share: float) -> float:
    buckets: dict[float, float] = {}
    for key, value in samples.items():
        if key.startswith(f"{name}_bucket"):
            bound = float(key.partition('le="')[2].partition('"')[0])
            buckets[bound] = buckets.get(bound, 0.0) + value
    return histogram_quantile(sorted(buckets.items()), share)


def _is(key: str, name: str, labels: dict[str, str]) -> bool:
    found, _, rest = key.partition("{")
    return found == name and all(f'{label}="{value}"' in rest for label, value in labels.items())


def _grown(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {name: after[name] - before.get(name, 0.0) for name in after}
