"""What an operator may say of boots at a time, and what is right if nothing is said."""

import pytest

from muster.base.errors import Invalid
from muster.host.boot_settings import boot_settings, check_boots


def test_emulated_guests_boot_as_many_at_a_time_as_there_are_processors_and_more_only_where_it_pays() -> None:
    settings = boot_settings("auto", emulated=True, n_cpus=6)
    assert (settings.limit, settings.limit_max, settings.by_boot_times) == (6, 9, True)
    assert settings.cpu > 1, "boots that use all processors are no reason to boot fewer"


def test_with_kvm_the_number_of_boots_follows_the_pressure() -> None:
    settings = boot_settings("auto", emulated=False, n_cpus=6)
    assert settings.limit_min < 6 == settings.limit < settings.limit_max
    assert not settings.by_boot_times


def test_an_operators_word_is_taken() -> None:
    unlimited = boot_settings("unlimited", emulated=True, n_cpus=2)
    assert unlimited.limit_min == unlimited.limit > 2_000, "a queue all the same: what guards the host stands there"
    fixed = boot_settings("5", emulated=True, n_cpus=2)
    assert (fixed.limit_min, fixed.limit, fixed.limit_max) == (5, 5, 5)


@pytest.mark.parametrize("asked", ["", "0", "-1", "2.5", "many", "10001", "AUTO", "\u0664"])
def test_what_is_no_number_of_boots_is_refused(asked: str) -> None:
    with pytest.raises(Invalid):
        check_boots(asked)
