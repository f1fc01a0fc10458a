"""When the bus was last away, as those count who have heard of nobody since."""

from muster.bus.absence import Absence


class Time:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_what_was_never_away() -> None:
    absence = Absence(Time())
    absence.end()
    assert absence.began_s(60.0) == 0.0


def test_it_counts_from_its_beginning_until_a_while_after_its_end() -> None:
    absence = Absence(time := Time())
    absence.begin()
    time.now += 300.0
    absence.begin()
    assert absence.began_s(60.0) == 300.0
    absence.end()
    time.now += 59.0
    absence.end()
    assert absence.began_s(60.0) == 359.0
    time.now += 1.0
    assert absence.began_s(60.0) == 0.0


def test_times_that_follow_each_other_closely_are_one() -> None:
    absence = Absence(time := Time())
    for _ in range(3):
        absence.begin()
        time.now += 50.0
        absence.end()
        time.now += 10.0
    assert absence.began_s(60.0) == 180.0
    time.now += 50.0
    absence.begin()
    time.now += 5.0
    assert absence.began_s(60.0) == 5.0
