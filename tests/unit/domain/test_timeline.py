"""How long each step of a server's life took."""

from muster.domain.timeline import durations_s


def test_each_step_is_counted_from_the_one_before_that_was_stamped() -> None:
    timeline = {"active": 15.0, "accepted": 10.0, "received": 12.5}
    assert durations_s(timeline) == {"received": 2.5, "active": 2.5}


def test_clocks_that_disagree_make_no_time_run_backwards() -> None:
    assert durations_s({"placed": 10.0, "received": 9.0, "active": 10.5}) == {"received": 0.0, "active": 1.5}


def test_a_life_without_steps_has_no_durations() -> None:
    assert durations_s({}) == {}
