"""How the number of boots at a time follows pressure and boot times."""

from collections.abc import Callable

import pytest

from muster.host.boot_limit import Climb, at_limit, boot_ended, next_limit
from muster.host.boot_settings import BootSettings
from muster.host.pressure import Pressure

SETTINGS = BootSettings(limit=8, limit_min=2, limit_max=10)
CLIMBING = BootSettings(limit=2, limit_min=1, limit_max=6, by_boot_times=True)


@pytest.mark.parametrize(
    ("limit", "pressure", "waiting", "expected"),
    [
        (8, None, 5, 8),
        (4, None, 5, 5),
        (8, Pressure(), 5, 9),
        (8, Pressure(), 0, 8),
        (10, Pressure(), 5, 10),
        (8, Pressure(cpu=0.9), 5, 4),
        (8, Pressure(io=0.9), 5, 4),
        (8, Pressure(memory=0.2), 0, 4),
        (3, Pressure(cpu=0.9), 5, 2),
    ],
)
def test_additive_increase_multiplicative_decrease(
    limit: int, pressure: Pressure | None, waiting: int, expected: int
) -> None:
    assert next_limit(SETTINGS, limit, pressure, waiting=waiting) == expected


def test_who_goes_by_boot_times_is_led_by_pressure_back_to_the_start_only() -> None:
    limits = [next_limit(CLIMBING, limit, Pressure(), waiting=5) for limit in (1, 2, 4)]
    assert limits == [2, 2, 4]
    assert next_limit(CLIMBING, 4, Pressure(memory=0.5), waiting=5) == 2


def play(boots_per_s: Callable[[int], float], boots: int, climb: Climb | None = None) -> list[int]:
    """The limits in force while so many boots end, on a host that makes so many per second with each limit."""
    climb, now_s, limits = climb or at_limit(CLIMBING.limit), 0.0, []
    for left in reversed(range(boots)):
        now_s += 1 / boots_per_s(climb.limit)
        climb = boot_ended(CLIMBING, climb, now_s, waiting=left)
        limits.append(climb.limit)
    return limits


def test_more_at_a_time_are_kept_as_long_as_they_make_more_boots_per_second() -> None:
    limits = play(lambda limit: min(limit, 4) / 10, 200)
    assert limits[:8] == [2] * 8
    assert limits[60:].count(4) > 0.6 * len(limits[60:])
    assert max(limits) == 5, "tried, not kept"


def test_where_more_at_a_time_are_no_faster_it_stays_and_tries_seldom() -> None:
    limits = play(lambda limit: 0.3, 100)
    assert max(limits) == 3
    assert limits.count(2) > 0.7 * len(limits)


def test_what_once_paid_by_chance_is_given_up_again() -> None:
    lucky = Climb(limit=4, kept=4, rate=1.0, since_s=0.0)
    limits = play(lambda limit: 1.0, 400, lucky)
    assert min(limits) == 2 == limits[-1], "not below where it started"
    assert limits[200:].count(2) > 0.7 * len(limits[200:])


def test_the_bounds_hold_whatever_pays() -> None:
    assert max(play(float, 300)) == CLIMBING.limit_max


def test_a_rate_of_slots_that_were_not_all_in_use_says_nothing() -> None:
    climb = at_limit(2)
    for moment in range(50):
        climb = boot_ended(CLIMBING, climb, float(moment), waiting=0)
    assert (climb.limit, climb.rate) == (2, 0.0)
