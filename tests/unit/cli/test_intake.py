"""How many connections a worker takes on: it is full until half of them are left; who is slow is not counted."""

from muster.cli.intake import Intake

AT_ONCE = 4


def begin(intake: Intake, *connections: str) -> None:
    for connection in connections:
        intake.begin(connection)


def end(intake: Intake, *connections: str) -> None:
    for connection in connections:
        intake.end(connection)


def has_changed(intake: Intake) -> bool:
    """Whether it has told of a change since it was asked last."""
    told = intake.changed.is_set()
    intake.changed.clear()
    return told


def test_it_is_full_until_half_is_left() -> None:
    intake = Intake(AT_ONCE)
    begin(intake, *"abc")
    assert (intake.is_full, has_changed(intake)) == (False, False)
    begin(intake, "d")
    assert (intake.is_full, has_changed(intake)) == (True, True)
    end(intake, "a")
    assert (intake.is_full, has_changed(intake)) == (True, False)
    end(intake, "b")
    assert (intake.is_full, has_changed(intake)) == (False, True)


def test_a_connection_that_asks_again_counts_once() -> None:
    intake = Intake(AT_ONCE)
    begin(intake, *"aaaa")  # accepted, asked, and asked more before the first answer
    assert not intake.is_full
    end(intake, *"aa")
    begin(intake, *"abcd")
    assert intake.is_full


def test_what_is_slow_is_not_counted() -> None:
    intake = Intake(AT_ONCE)
    begin(intake, *"abcd")
    intake.pass_over()
    assert not intake.is_full
    begin(intake, *"efg")
    assert not intake.is_full
    end(intake, *"abcd")
    begin(intake, "h")
    assert intake.is_full, "an end that was not counted makes no room"
    begin(intake, "a")
    end(intake, *"efg")
    assert not intake.is_full


def test_one_at_a_time() -> None:
    intake = Intake(1)
    begin(intake, "a")
    assert intake.is_full
    end(intake, "a")
    assert not intake.is_full
