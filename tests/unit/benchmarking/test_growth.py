"""What metrics say of the time between two looks at them."""

import pytest

from benchmarks.growth import Growth

_DELIVERY = "muster_bus_delivery_seconds"


def _histogram(**counts: float) -> dict[str, float]:
    """Of values up to 0.1, up to 0.2, and all; the mean is 0.1."""
    few, some, most = counts["few"], counts["some"], counts["most"]
    buckets = {f'{_DELIVERY}_bucket{{le="{bound}"}}': count for bound, count in (("0.1", few), ("0.2", some))}
    return {
        **buckets,
        f'{_DELIVERY}_bucket{{le="+Inf"}}': most,
        f"{_DELIVERY}_count": most,
        f"{_DELIVERY}_sum": most / 10,
    }


def test_only_what_came_between_the_looks_counts() -> None:
    before = Growth({'muster_messages_total{direction="to_hosts"}': 5.0}, {})
    after = Growth(
        {'muster_messages_total{direction="to_hosts"}': 7.0, 'muster_messages_total{direction="from_hosts"}': 3.0}, {}
    )
    growth = after.since(before)
    assert growth.total("muster_messages_total") == 5.0
    assert growth.total("muster_messages_total", direction="to_hosts") == 2.0
    assert growth.total("muster_messages") == 0.0


def test_each_way_has_the_times_of_who_reads_it() -> None:
    growth = Growth(_histogram(few=90.0, some=100.0, most=100.0), _histogram(few=0.0, some=100.0, most=100.0))
    assert growth.from_hosts.p50_s == pytest.approx(0.1 * 50 / 90)
    assert growth.from_hosts.p99_s == pytest.approx(0.19)
    assert growth.to_hosts.p50_s == pytest.approx(0.15)
    assert growth.to_hosts.mean_s == pytest.approx(0.1)


def test_where_nothing_was_sent_no_time_passed() -> None:
    assert Growth({}, {}).to_hosts.p99_s == 0.0
