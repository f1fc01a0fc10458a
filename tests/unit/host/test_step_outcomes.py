from collections.abc import Sequence

import pytest

from muster.base.errors import Invalid, Transient
from muster.domain.reports import Fault
from muster.host.complaint import Complaint
from muster.host.ports import Outcome
from muster.host.steps import carry_out


async def test_what_is_put_off_is_neither_done_nor_failed() -> None:
    async def work(server_ids: Sequence[str]) -> list[Outcome]:
        assert list(server_ids) == ["a", "b", "c", "d"]
        return [
            Outcome("a"),
            Outcome("b", Fault(500, "no")),
            Outcome("c", retry_after_s=2.0),
            Outcome("d", retry_after_s=5.0),
        ]

    result = await carry_out("image", ["a", "b", "c", "d"], work)
    assert result.done == ("a",)
    assert result.faults == {"b": Fault(500, "no")}
    assert (result.later, result.retry_after_s) == (("c", "d"), 5.0)


async def test_who_alone_is_put_off_puts_off_nobody_else() -> None:
    """A network whose DHCP server did not start once held back all that a host built, as long as it did not."""
    calls = []
    ids = [f"s{number}" for number in range(1_000)]

    async def work(server_ids: Sequence[str]) -> None:
        calls.append(server_ids)
        if "s0" in server_ids or "s700" in server_ids:
            raise Transient("its network is away", retry_after_s=3.0)

    result = await carry_out("dhcp", ids, work, again=True)
    assert (result.later, result.retry_after_s) == (("s0", "s700"), 3.0)
    assert set(result.done) == set(ids) - {"s0", "s700"}
    assert len(calls) < 50


@pytest.mark.parametrize(("again", "most"), [(False, 1), (True, 20)])
async def test_what_is_away_for_all_is_not_asked_for_each(again: bool, most: int) -> None:
    calls = 0
    ids = [f"s{number}" for number in range(1_000)]

    async def work(server_ids: Sequence[str]) -> None:
        nonlocal calls
        calls += 1
        raise Transient("away", retry_after_s=3.0)

    result = await carry_out("links", ids, work, again=again)
    assert (result.later, result.retry_after_s) == (tuple(ids), 3.0)
    assert calls <= most


async def test_a_log_names_who_is_concerned(capsys: pytest.CaptureFixture[str]) -> None:
    async def work(server_ids: Sequence[str]) -> None:
        raise Transient("away") if len(server_ids) > 1 else Invalid("no such thing")

    await carry_out("image", [f"s{number}" for number in range(7)], work)
    await carry_out("image", ["s8"], work)
    said = capsys.readouterr().out
    assert "s0 s1 s2 s3 s4 and 2 more" in said
    assert "server=s8" in said


def test_what_lasts_is_said_once_a_minute() -> None:
    complaint = Complaint()
    assert not complaint.over()
    assert [complaint.due(float(now_s)) for now_s in (0, 1, 59, 60, 61)] == [True, False, False, True, False]
    assert complaint.over()
    assert not complaint.over()
    assert complaint.due(62.0)
