"""Counters: exact where they say so, bounded however long a soak goes on, the same after a replay."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.soak.histogram import GROWTH, SMALLEST_S, Histogram
from muster.soak.statistics import FIRST_SLOT_S, MOST_FAULTS, MOST_SLOTS, OTHER, Away, Done, Life, Statistics

DURATIONS = st.lists(st.floats(min_value=0, max_value=100_000, allow_nan=False), min_size=1, max_size=50)


def histogram(values: list[float]) -> Histogram:
    made = Histogram()
    for value in values:
        made.add(value)
    return made


@given(DURATIONS, st.integers(min_value=1, max_value=100))
def test_a_percentile_is_at_most_a_tenth_too_high(values: list[float], percent: int) -> None:
    exact = sorted(values)[max(0, -(-percent * len(values) // 100) - 1)]
    found = histogram(values).percentile_s(percent)
    assert found is not None
    assert min(exact, 86_400 / GROWTH) <= found * (1 + 1e-9)
    assert found <= max(exact, SMALLEST_S) * GROWTH**2


@given(DURATIONS, DURATIONS)
def test_histograms_add_up(one: list[float], other: list[float]) -> None:
    added = histogram(one)
    added.merge(histogram(other))
    whole = histogram(one + other)
    assert (added.count, added.min_s, added.max_s, added.buckets) == (
        whole.count,
        whole.min_s,
        whole.max_s,
        whole.buckets,
    )
    assert added.sum_s == pytest.approx(whole.sum_s)


def test_of_nothing_there_is_no_percentile() -> None:
    empty = Histogram()
    empty.merge(Histogram())
    assert empty.percentile_s(50) is None


def test_what_fails_is_in_no_percentile() -> None:
    counted = Statistics()
    counted.apply(Done(1.0, "reboot", "a", 2.0))
    counted.apply(Done(2.0, "reboot", "a", 300.0, "not done after 300 s"))
    counted.apply(Done(2.0, "reboot", "b", 1.0))
    row = counted.rows["a"]["reboot"]
    assert (row.ok.count, row.failed, row.ok.max_s) == (1, 1, 2.0)
    assert counted.faults == {"reboot": {"not done after 300 s": 1}}
    assert (counted.slots[0].ok, counted.slots[0].failed) == (2, 1)


def test_faults_that_are_all_different_do_not_grow_without_end() -> None:
    counted = Statistics()
    for number in range(MOST_FAULTS + 50):
        counted.apply(Done(0.0, "create", "a", 1.0, f"fault {number}"))
    counted.apply(Done(0.0, "create", "a", 1.0, "fault 3"))
    assert len(counted.faults["create"]) == MOST_FAULTS + 1
    assert counted.faults["create"][OTHER] == 50
    assert counted.faults["create"]["fault 3"] == 2


def test_slots_of_time_become_longer_instead_of_more() -> None:
    counted = Statistics()
    for minute in range(24 * 60):
        counted.apply(Done(60.0 * minute, "read", "a", 0.1))
        counted.alive(minute % 7, 60.0 * minute)
    assert len(counted.slots) <= MOST_SLOTS
    assert counted.slot_s == FIRST_SLOT_S * 128
    assert sum(slot.ok for slot in counted.slots) == 24 * 60
    assert sum(slot.took["read"].count for slot in counted.slots) == 24 * 60
    assert max(slot.most_servers for slot in counted.slots) == counted.most_servers == 6


def test_an_outage_is_in_all_the_time_that_it_lasted() -> None:
    """All of it was in the piece of time in which it began: ten minutes away within five seconds."""
    counted = Statistics()
    counted.apply(Away(2.0, 10.0, "gone"))
    assert [slot.away_s for slot in counted.slots] == [3.0, 5.0, 2.0]
    counted.apply(Away(100.0, 40_000.0, "gone"))
    assert all(slot.away_s <= counted.slot_s for slot in counted.slots)
    assert sum(slot.away_s for slot in counted.slots) == pytest.approx(counted.away_s) == pytest.approx(40_010.0)
    counted.apply(Away(5.0, 0.0, "a blink"))
    assert counted.outages == 3


def test_counters_are_the_same_after_they_were_saved() -> None:
    counted = Statistics()
    for event in (Life(0.0, "begun"), Done(1.0, "create", "a", 1.0), Away(30.0, 90.0, "no connection")):
        counted.apply(event)
    counted.requested("POST servers", 0.1, ok=True)
    assert msgspec.json.decode(msgspec.json.encode(counted), type=Statistics) == counted
    assert (counted.outages, counted.away_s, counted.lives) == (1, 90.0, {"begun": 1})


def test_new_counters_share_nothing() -> None:
    one = Statistics()
    one.apply(Done(0.0, "create", "a", 1.0))
    assert Statistics().rows == {}
    assert Histogram().buckets == {}
