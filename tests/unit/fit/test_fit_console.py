"""What people are told of a run that found nothing."""

import io

import pytest
from rich.console import Console

from muster.fit.console import report
from muster.fit.options import FitOptions
from muster.fit.records import FitResult, Room, Step, advise

ROOM = Room(guest_vcpus=1, guest_ram_mib=128)
REFUSED = Step(guests=2, within=False, reason="No valid host was found")
BROKE = Step(guests=1, within=False, probes=30, p50_ms=9_000.0)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([REFUSED, Step(guests=1, within=False, reason="quota")], "The cloud gave no guests at all"),
        ([REFUSED, BROKE, BROKE], "Not even the fewest guests that were tried kept to the bound"),
    ],
)
def test_a_cloud_that_gives_none_is_no_guest_that_is_slow(steps: list[Step], said: str) -> None:
    advice = advise(0, ROOM, steps, hit_most=False)
    result = FitResult(cloud="c", started_at="now", options=FitOptions(), room=ROOM, steps=steps, advice=advice)
    console = Console(file=io.StringIO(), width=200)
    console.print(report(result))
    assert said in console.file.getvalue()  # type: ignore[attr-defined]
