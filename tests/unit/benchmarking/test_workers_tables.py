"""What is judged of the workers benchmark: the bus at the even rate, not in the burst."""

from tests.unit.bench.makers import UP_AND_DOWN, record, result

from benchmarks.growth import Growth
from benchmarks.workers_tables import Burst, Cost, Steady, aims, grids, notes
from muster.bench.records import Sample

_DELIVERY = "muster_bus_delivery_seconds"
_MESSAGES = 'muster_messages_total{direction="to_hosts"}'


def _growth(delivery_s: float, messages: float = 1.0) -> Growth:
    """All messages took up to `delivery_s`, each way."""
    times = {
        f'{_DELIVERY}_bucket{{le="{delivery_s}"}}': 1.0,
        f'{_DELIVERY}_bucket{{le="+Inf"}}': 1.0,
        f"{_DELIVERY}_count": 1.0,
        f"{_DELIVERY}_sum": delivery_s,
    }
    return Growth({**times, _MESSAGES: messages}, times)


def _cost(workers: int, *, burst_s: float, steady_s: float, messages: float = 1.0, busy: float = 50.0) -> Cost:
    records = [
        record(index, requested=0.0, accepted=0.1, active=1.0, ready=1.0, delete_requested=2.0, gone=3.0)
        for index in range(UP_AND_DOWN.count)
    ]
    found = result(records, UP_AND_DOWN, samples=[Sample(0.2 * number, busy, 0.0) for number in range(1, 9)])
    burst = Burst(found, _growth(burst_s, messages), 1.0, 0.5)
    return Cost(workers, burst, Steady(found, _growth(steady_s), 1.0, 2.0))


def _missed(*costs: Cost) -> list[str]:
    return [aim.what for aim in aims(list(costs)) if not aim.met]


def test_times_in_the_burst_are_shown_and_not_judged() -> None:
    costs = [_cost(1, burst_s=0.1, steady_s=0.1), _cost(8, burst_s=0.9, steady_s=0.1)]
    assert not _missed(*costs)
    shown = [grid.rows for grid in grids(costs, "on hosts")]
    assert any(900.0 * 0.99 in row for row in shown[2])


def test_times_at_the_even_rate_are_judged_each_way_by_median_and_p99() -> None:
    missed = _missed(_cost(1, burst_s=0.1, steady_s=0.1), _cost(8, burst_s=0.1, steady_s=0.14))
    assert len(missed) == 4
    assert all("at the even rate" in what for what in missed)


def test_of_several_rounds_the_median_is_judged_and_each_is_told() -> None:
    slow, usual = _cost(8, burst_s=0.1, steady_s=0.9), _cost(8, burst_s=0.1, steady_s=0.1)
    one = _cost(1, burst_s=0.1, steady_s=0.1)
    assert not _missed(one, slow, one, usual, one, usual)
    assert len(_missed(one, slow, one, usual, one, slow)) == 4
    assert [row[0] for row in grids([one, slow, one, usual], "on hosts")[0].rows] == [1, 8]
    assert any("450/50" in note for note in notes([one, slow, one, usual]))


def test_a_machine_without_free_processors_at_the_even_rate_is_said() -> None:
    assert not notes([_cost(1, burst_s=0.1, steady_s=0.1, busy=70.0)])
    [note] = notes([_cost(1, burst_s=0.1, steady_s=0.1), _cost(8, burst_s=0.1, steady_s=0.1, busy=99.0)])
    assert "99 %" in note


def test_messages_are_judged_in_the_burst() -> None:
    few, many = (_cost(1, burst_s=0.1, steady_s=0.1, messages=count) for count in (4.0, 5.0))
    assert not _missed(few)
    assert _missed(many) == ["messages per server of the burst"]


def test_processors_are_looked_at_while_servers_are_made() -> None:
    burst = _cost(1, burst_s=0.1, steady_s=0.1).burst
    assert burst.busy_percent == 50.0
    assert (burst.servers, burst.lost) == (4, 0)
