"""What makes `make test-tempest` fail, and what does not."""

from pathlib import Path

import pytest
from tests.system.tempest.judgement import FAILED, PASSED, SKIPPED, Result, judged, read_known, result_of
from tests.system.tempest.report import report

A = "tempest.api.compute.servers.test_a.A"
B = "tempest.api.network.test_b.B"
KNOWN = {r"test_b\.B\.": "not offered: b"}


def test_what_passes_is_skipped_or_is_known_is_right() -> None:
    results = [
        Result(f"{A}.test_1", PASSED),
        Result(f"{A}.test_2", SKIPPED, "Resize not available."),
        Result(f"{B}.test_1", FAILED, "404"),
    ]
    judgement = judged(results, [one.name for one in results], KNOWN)
    assert judgement.passed == [f"{A}.test_1"]
    assert judgement.skipped == {"resize": 1}
    assert judgement.not_offered == {"not offered: b": 1}
    assert not judgement.wrong

    text = report(judgement, 120.0, 2)
    assert "3 tests in 2 min, 2 at a time: 1 passed, 1 skipped, 1 not offered, 0 wrong." in text
    assert "| compute.servers | 1 |" in text


def test_a_class_stands_for_its_tests() -> None:
    wanted = [f"{A}.test_1", f"{A}.test_2", f"{B}.test_1"]
    results = [Result(f"setUpClass ({A})", SKIPPED, "no"), Result(f"setUpClass ({B})", FAILED, "404")]
    judgement = judged(results, wanted, {})
    assert judgement.skipped == {"no": 2}
    assert judgement.wrong == {f"{B}.test_1": "404"}


@pytest.mark.parametrize(
    ("results", "wrong"),
    [
        ([Result(f"{A}.test_1", FAILED, "400"), Result(f"{B}.x", FAILED)], {f"{A}.test_1": "400"}),
        ([Result(f"{B}.x", FAILED)], {f"{A}.test_1": "it did not run"}),
        (
            [Result(f"{A}.test_1", PASSED), Result(f"tearDownClass ({A})", FAILED, "409"), Result(f"{B}.x", FAILED)],
            {A: "409"},
        ),
    ],
)
def test_what_fails_or_does_not_run_is_wrong(results: list[Result], wrong: dict[str, str]) -> None:
    assert judged(results, [f"{A}.test_1", f"{B}.x"], KNOWN).wrong == wrong


def test_a_list_of_what_fails_no_more_is_wrong() -> None:
    results = [Result(f"{B}.x", PASSED)]
    assert list(judged(results, [f"{B}.x"], KNOWN).wrong) == list(KNOWN)


def test_what_tempest_tells_of_a_test() -> None:
    told = {"name": "a.B.test_c[id-1,smoke]", "status": "skip", "seconds": 1.5, "reason": "because\n"}
    assert result_of(told) == Result("a.B.test_c", SKIPPED, "because", 1.5)
    told = {"name": "a.B.test_c", "status": "fail", "seconds": 0, "traceback": "Traceback ..."}
    assert result_of(told) == Result("a.B.test_c", FAILED, "Traceback ...")
    assert result_of({"name": "a", "status": "inprogress", "seconds": 0}).status == FAILED


def test_the_list_has_a_reason_for_everything() -> None:
    known = read_known(Path(__file__).parents[2] / "system/tempest/not_offered.toml")
    assert known
    assert all(reason for reason in known.values())
