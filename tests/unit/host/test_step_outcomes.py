from collections.abc import Sequence

from muster.domain.reports import Fault
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
