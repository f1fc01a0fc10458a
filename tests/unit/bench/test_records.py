"""The result: its JSON, its verdict, its tables and its chart."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from muster.base.errors import Invalid
from muster.bench.chart import MOST_SAMPLES, averaged, draw
from muster.bench.console import ProgressObserver, report
from muster.bench.options import Phase, ServersOptions
from muster.bench.records import Leftover, Sample, ServerRecord, ServersResult, from_json, to_json
from muster.client.api import Traffic

from .makers import UP_AND_DOWN, record, result


def four(**changes: Any) -> ServersResult:
    return result([whole(number) for number in range(4)], UP_AND_DOWN, **changes)


def whole(number: int) -> ServerRecord:
    return record(
        number, requested=0.0, accepted=0.5, active=1.0 + number, ready=1.0 + number,
        delete_requested=6.0, delete_accepted=6.1, gone=8.0,
    )  # fmt: skip


def test_json_goes_there_and_back() -> None:
    one = four()
    assert from_json(to_json(one)) == one


@pytest.mark.parametrize("data", [b"", b"{}", b"[]"])
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        from_json(data)


def test_another_schema_is_refused() -> None:
    with pytest.raises(Invalid, match="schema"):
        from_json(to_json(msgspec.structs.replace(four(), schema="muster.bench.servers/99")))


@pytest.mark.parametrize(
    "changes",
    [
        {"traffic": Traffic({}, {"POST servers: 500": 1}, {}, 1, 0)},
        {"traffic": Traffic({}, {}, {"DELETE servers": 1}, 1, 0)},
        {"leftovers": [Leftover("server", "1", "why")]},
        {"shared_addresses": ["10.0.0.1"]},
    ],
)
def test_one_error_retry_leftover_or_conflict_spoils_the_verdict(changes: dict[str, Any]) -> None:
    assert four().ok
    assert not four(**changes).ok


def test_one_server_that_fails_spoils_the_verdict() -> None:
    assert not result([whole(0), record(1, requested=0.0)], UP_AND_DOWN).ok


def shown(one: ServersResult) -> str:
    plain = Console(width=160, color_system=None)
    with plain.capture() as capture:
        plain.print(report(one))
    return capture.get()


def test_the_table_says_everything() -> None:
    failed = record(4, requested=0.0)
    failed.fail(Phase.CREATE, "[red]no host[/red]", 2.0)
    text = shown(
        result(
            [*map(whole, range(4)), failed],
            ServersOptions(count=5, phases=(Phase.CREATE, Phase.DELETE)),
            leftovers=[Leftover("server", "id-3", "it stays")],
            shared_addresses=["10.0.0.1"],
            traffic=Traffic({"POST servers": 5}, {"POST servers: 500": 1}, {"DELETE servers": 2}, 5, 0),
        )
    )
    for expected in (
        "4/5",
        "80",
        "[red]no host[/red]",
        "not removed: server id-3: it stays",
        "10.0.0.1",
        "errors 1 (POST servers: 500: 1)",
        "retries 2 (DELETE servers: 2)",
        "100.00 ms per server",
    ):
        assert expected in text


def test_progress_is_shown_with_failures() -> None:
    console = Console(width=100, force_terminal=True, color_system=None)
    with console.capture() as capture, ProgressObserver(console) as observer:
        observer.says("creating")
        observer.expects(Phase.CREATE, 3)
        observer.passed(Phase.CREATE)
        observer.failed(Phase.CREATE, "no host")
        observer.left(Leftover("server", "id-1", "it stays"))
    text = capture.get()
    assert "creating ..." in text
    assert "1/3" in text
    assert "1 failed" in text
    assert "not removed: server id-1: it stays" in text


def test_the_table_fits_into_80_columns() -> None:
    records = [whole(number) for number in range(4)]
    one = result(records, ServersOptions(count=4))
    wide = [msgspec.structs.replace(figure, ok=100_000, total=100_000, per_s=1234.5) for figure in one.figures]
    plain = Console(width=80, color_system=None)
    with plain.capture() as capture:
        plain.print(report(msgspec.structs.replace(one, figures=wide)))
    assert "…" not in capture.get()
    assert capture.get().count("100000/100000") == len(wide)


def test_a_run_in_which_nothing_worked_has_a_table_and_a_chart(tmp_path: Path) -> None:
    records = [ServerRecord(index=0, name="x")]
    records[0].fail(Phase.CREATE, "refused", 0.1)
    one = result(records, ServersOptions(count=1), samples=[], duration_s=0.0)
    assert "0/1" in shown(one)
    draw(one, tmp_path / "chart.svg")
    assert (tmp_path / "chart.svg").stat().st_size > 0


def test_the_chart_says_which_cloud_how_many_and_how_it_went(tmp_path: Path) -> None:
    draw(four(), tmp_path / "chart.svg")
    text = (tmp_path / "chart.svg").read_text()
    assert "cloud: 4 servers at once, 100 % ACTIVE, the last after 4.0 s" in text  # as a comment beside the glyphs
    assert "deleting" in text
    assert "ping" not in text  # a state that nobody was in


@pytest.mark.parametrize("name", ["chart.bmp", "chart", "nowhere/chart.png"])
def test_a_chart_that_cannot_be_written_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid):
        draw(four(), tmp_path / name)


def test_many_samples_are_averaged() -> None:
    samples = [Sample(float(number), float(number % 2) * 100, 10.0) for number in range(1000)]
    few = averaged(samples)
    assert len(few) == MOST_SAMPLES
    assert {sample.cpu_percent for sample in few} == {50.0}
    assert averaged(samples[:3]) == samples[:3]
    assert averaged([]) == []
