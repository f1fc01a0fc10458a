"""What is read out of a run of Go's tests, and that the list of what is not offered can be used."""

import json
import re
from pathlib import Path

from tests.system.gophercloud import acceptance
from tests.system.gophercloud.go import ACCEPTANCE
from tests.system.tempest.judgement import FAILED, PASSED, SKIPPED, Result, read_known


def _line(action: str, test: str | None = None, package: str = "/compute/v2", **more: object) -> str:
    event: dict[str, object] = {"Action": action, "Package": ACCEPTANCE + package, **more}
    return json.dumps(event | ({"Test": test} if test else {}))


def test_results_with_what_was_said() -> None:
    lines = [
        _line("run", "TestA"),
        _line("output", "TestA", Output="=== RUN   TestA\n"),
        _line("output", "TestA", Output="    conditions.go:13: must be admin to run this test\n"),
        _line("output", "TestA", Output="--- SKIP: TestA (0.00s)\n"),
        _line("skip", "TestA", Elapsed=0),
        _line("output", "TestB", Output="    convenience.go:35: \x1b[1;31mFailure\x1b[0m\n        and more\n"),
        _line("fail", "TestB", Elapsed=1.5),
        _line("pass", "TestReauth", "", Elapsed=0.1),
        _line("output", Output="FAIL\n"),
        _line("fail"),
    ]
    assert list(acceptance.told(lines)) == [
        Result("compute/v2.TestA", SKIPPED, "must be admin to run this test", 0),
        Result("compute/v2.TestB", FAILED, "Failure\n        and more", 1.5),
        Result("client.TestReauth", PASSED, "", 0.1),
    ]


def test_the_list_has_patterns_of_whole_names() -> None:
    known = read_known(Path(acceptance.__file__).with_name("not_offered.toml"))
    assert known
    for pattern in known:
        re.compile(pattern)
        assert pattern.startswith("^")
