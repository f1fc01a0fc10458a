"""When lives begin, and what happens in them."""

from collections import Counter
from random import Random

import pytest

from muster.soak.scenario import Scenario
from muster.soak.schedule import MOST_LATE, Schedule, activities


def test_turns_are_evenly_spaced_whoever_takes_them() -> None:
    schedule = Schedule(30, 10.0)
    assert [schedule.turn_s(10.0) for _ in range(4)] == [10, 12, 14, 16]
    assert schedule.missed == 0


def test_a_turn_that_is_a_little_late_is_caught_up_with() -> None:
    schedule = Schedule(60, 0.0)
    assert [schedule.turn_s(MOST_LATE + 0.5) for _ in range(3)] == [0, 1, 2]


def test_after_an_outage_there_is_no_storm() -> None:
    schedule = Schedule(60, 0.0)
    turns = [schedule.turn_s(300.2) for _ in range(3)]
    assert turns == [300, 301, 302]
    assert schedule.missed == 300


def test_without_a_rate_every_turn_is_now() -> None:
    schedule = Schedule(0, 0.0)
    assert [schedule.turn_s(7.0), schedule.turn_s(8.0)] == [7.0, 8.0]


def test_activities_follow_the_mix() -> None:
    wanted = Scenario(mix={"reboot": 3, "read": 1, "rebuild": 0}, activities=(2, 4))
    rng = Random(1)
    lives = [activities(wanted, rng) for _ in range(1_000)]
    assert {len(life) for life in lives} == {2, 3, 4}
    counted = Counter(name for life in lives for name in life)
    assert set(counted) == {"reboot", "read"}
    assert counted["reboot"] / counted["read"] == pytest.approx(3, rel=0.2)
