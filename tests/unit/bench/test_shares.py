"""The chart's data."""

from hypothesis import given
from hypothesis import strategies as st

from muster.bench.options import Phase, ServersOptions
from muster.bench.records import MOMENTS, ServerRecord
from muster.bench.shares import MOST_POINTS, State, shares, states

from .makers import UP_AND_DOWN, record


def test_the_states_of_a_simulated_server() -> None:
    one = record(0, requested=0.0, accepted=1.0, active=2.0, ready=2.0, delete_requested=3.0, gone=4.0)
    order = [state for _, state in states(one, UP_AND_DOWN)]
    assert order == [State.REQUESTED, State.BUILDING, State.READY, State.READY, State.DELETING, State.GONE]


def test_the_states_of_a_server_that_is_reached() -> None:
    one = record(0, requested=0.0, accepted=1.0, active=2.0, pinged=3.0, banner=4.0, ready=4.0)
    order = [state for _, state in states(one, ServersOptions())]
    assert order == [State.REQUESTED, State.BUILDING, State.PING, State.SSH, State.READY]


def test_a_failed_server_is_deleted_too() -> None:
    one = record(0, requested=0.0, accepted=1.0, delete_requested=5.0, gone=6.0)
    one.fail(Phase.CREATE, "no host", 2.0)
    assert [state for _, state in states(one, UP_AND_DOWN)][-3:] == [State.FAILED, State.DELETING, State.GONE]


def test_counts_change_when_servers_do() -> None:
    records = [record(0, requested=0.0, accepted=1.0), record(1, requested=2.0)]
    data = shares(records, UP_AND_DOWN, 4.0)
    assert data.times_s == [0.0, 1.0, 2.0, 4.0]
    assert data.counts[State.REQUESTED] == [1, 0, 1, 1]
    assert data.counts[State.BUILDING] == [0, 1, 1, 1]
    assert data.counts[State.WAITING] == [1, 1, 0, 0]


moments = st.lists(st.floats(0, 100), min_size=len(MOMENTS), max_size=len(MOMENTS)).map(sorted)


@given(st.lists(st.tuples(moments, st.integers(0, len(MOMENTS))), max_size=20))
def test_the_shares_always_add_up(servers: list[tuple[list[float], int]]) -> None:
    records = [
        ServerRecord(index=0, name="x", **dict(list(zip(MOMENTS, times, strict=True))[:reached]))
        for times, reached in servers
    ]
    data = shares(records, ServersOptions(), 100.0)
    assert data.times_s == sorted(data.times_s)
    assert len(data.times_s) <= MOST_POINTS + 2
    for point in range(len(data.times_s)):
        column = [data.counts[state][point] for state in State]
        assert sum(column) == len(records)
        assert min(column) >= 0
