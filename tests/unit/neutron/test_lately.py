"""What was noted lately is known, and the rest forgotten."""

from muster.neutron.lately import Lately


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_name_is_known_for_a_while_and_noted_again_for_longer() -> None:
    clock = Clock()
    lately = Lately(60.0, clock)
    assert "a" not in lately
    lately.note("a")
    clock.now_s = 59.0
    assert "a" in lately
    lately.note("a")
    clock.now_s = 100.0
    assert "a" in lately
    clock.now_s = 119.0
    assert "a" not in lately


def test_what_is_old_is_not_kept() -> None:
    clock = Clock()
    lately = Lately(60.0, clock)
    for number in range(1_000):
        clock.now_s = number
        lately.note(str(number))
        lately.note("again and again")
    assert len(lately) <= 61
    assert "again and again" in lately
