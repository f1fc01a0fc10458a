"""What the report says, to people, to scripts and by its exit status."""

from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from muster.base.errors import Invalid
from muster.soak.chart import draw
from muster.soak.console import clock, drawn, line, live
from muster.soak.folder import Saved
from muster.soak.report import Report, report, to_json
from muster.soak.run import Progress
from muster.soak.scenario import Scenario
from muster.soak.statistics import Away, Done, Event, Life
from muster.soak.versions import NO_ANSWER

from .test_soak_folder import ENVIRONMENT

EVENTS: tuple[Event, ...] = (
    Life(0.0, "begun"),
    *(Done(float(number), "reboot", "kernel 6.1", 0.5 + number / 100) for number in range(98)),
    *(Done(float(number), "create", "kernel 6.6", 1.0) for number in range(100)),
    Done(99.0, "reboot", "kernel 6.1", 3.0, "ERROR instead of ACTIVE"),
    Done(99.0, "create", "kernel 6.1", 3.0, "not done after 300 s"),
    Away(100.0, 90.0, "no connection"),
)


def said(allowed_percent: float = 0.0, **changes: Any) -> Report:
    return report(saved(allowed_percent, **changes))


def saved(
    allowed_percent: float = 0.0, leftovers: list[str] | None = None, events: tuple[Event, ...] = EVENTS
) -> Saved:
    made = Saved(
        run="01234567",
        scenario=Scenario(allowed_percent=allowed_percent),
        environment=ENVIRONMENT,
        over=not leftovers,
        leftovers=leftovers or [],
        active_s=200.0,
        interruptions=[50.0],
    )
    for event in events:
        made.statistics.apply(event)
    return made


def test_combinations_with_the_most_failures_come_first() -> None:
    found = said(events=(*EVENTS, Done(99.0, "create", NO_ANSWER, 1.0, "no connection"))).combinations
    assert [(one.name, one.failed_percent) for one in found] == [
        ("kernel 6.1", 2.0),
        ("kernel 6.6", 0.0),
        (NO_ANSWER, 100.0),
    ]
    assert (said().ok_operations, said().failed_operations, said().failed_percent) == (198, 2, 1.0)


def test_operations_are_in_the_order_of_a_life_over_all_combinations() -> None:
    create, reboot = said().operations
    assert (create.name, create.ok, create.failed, create.max_s) == ("create", 100, 1, 1.0)
    assert (reboot.name, reboot.ok, reboot.failed) == ("reboot", 98, 1)
    assert reboot.p50_s == pytest.approx(0.98, rel=0.11)


def test_the_verdict_is_what_was_allowed() -> None:
    assert not said().ok
    assert said(1.0).ok
    assert not said(1.0, leftovers=["server 1: still there"]).ok
    assert not said(100.0, events=()).ok


def test_the_json_has_all_of_it() -> None:
    assert msgspec.json.decode(to_json(said()), type=Report) == said()


def test_people_read_it_in_80_columns() -> None:
    console = Console(width=80, record=True, file=StringIO())
    console.print(drawn(said(leftovers=["server 1: still there"])))
    console.print(live(Progress("users at work", saved(), 60.0, 3, 12.0)))
    text = console.export_text()
    for word in ("198 operations went well", "ERROR instead of ACTIVE", "kernel 6.1", "not removed: server 1"):
        assert word in " ".join(text.split())
    assert "does not answer for 0:12" in text
    assert "3 servers, 198 operations, 2 failed" in line(Progress("users at work", saved(), 60.0, 3, None))
    assert clock(3_723) == "1:02:03"


def test_the_chart_is_drawn_whatever_was_counted(tmp_path: Path) -> None:
    draw(said(), tmp_path / "chart.svg")
    assert b"<svg" in (tmp_path / "chart.svg").read_bytes()
    draw(said(events=()), tmp_path / "empty.svg")
    with pytest.raises(Invalid, match=r"\.png"):
        draw(said(), tmp_path / "chart.gif")
