"""When a benchmark counts as passed."""

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from benchmarks.outcome import Aim, Grid, Machine, Outcome, number, show, write

RIGHT = Aim(what="errors", value=0, at_most=0, exact=True)
WRONG = Aim(what="errors", value=1, at_most=0, exact=True)
SLOW = Aim(what="per second", value=1, at_least=300)


def outcome(*aims: Aim, quick: bool = False) -> Outcome:
    return Outcome(
        name="sample",
        quick=quick,
        yardstick="itself",
        machine=Machine(cpus=2, python="3", system="Linux", load_before=0.0),
        duration_s=1.0,
        grids=[Grid("a table", ["", "per s"], [["first", 12.3456]])],
        aims=list(aims),
    )


@pytest.mark.parametrize(
    ("aims", "quick", "ok"),
    [
        ((RIGHT,), False, True),
        ((RIGHT, SLOW), False, False),
        ((RIGHT, SLOW), True, True),
        ((WRONG,), True, False),
        ((WRONG,), False, False),
    ],
)
def test_speed_is_judged_in_full_runs_only_and_rightness_always(aims: tuple[Aim, ...], quick: bool, ok: bool) -> None:
    assert outcome(*aims, quick=quick).ok is ok


@pytest.mark.parametrize(("value", "met"), [(0.9, False), (1.0, True), (1.3, True), (1.31, False)])
def test_an_aim_has_an_inclusive_limit_at_either_end(value: float, met: bool) -> None:
    assert Aim(what="a ratio", value=value, at_least=1.0, at_most=1.3).met is met


def test_what_is_shown_and_what_is_written_say_the_same(tmp_path: Path) -> None:
    result, screen = outcome(RIGHT, SLOW), io.StringIO()
    show(result, Console(file=screen, width=100))
    assert "NOT met: per second: 1 (aim >= 300)" in screen.getvalue()
    assert "12.3" in screen.getvalue()
    path = write(result, tmp_path / "new")
    assert msgspec.json.decode(path.read_bytes(), type=Outcome) == result


@pytest.mark.parametrize(("value", "text"), [(2000, "2,000"), (1234.5, "1,234"), (0.4123, "0.412"), (12.34, "12.3")])
def test_numbers_have_the_digits_that_mean_something(value: float, text: str) -> None:
    assert number(value) == text
