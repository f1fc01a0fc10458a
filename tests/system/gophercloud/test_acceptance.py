"""gophercloud's own acceptance tests, unmodified, against `muster up`: all pass, but for what is listed."""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from tests.cloud_process import cloud_process
from tests.system.gophercloud import acceptance
from tests.system.tempest.judgement import Judgement, judged, read_known

HERE = Path(__file__).parent
REPORT = HERE.parents[2] / "var/gophercloud/report.md"
HOSTS = 8
STOP_S = "2"  # tests poll each second, and want to see a server while it reboots
OF_USERS = "^TestServersActionLock$"  # administrators may delete what is locked
SHOWN = 2_000

# openstacksdk warns of what it does itself.
SDK = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
pytestmark = [pytest.mark.system, pytest.mark.timeout(2 * acceptance.RUN_TIMEOUT_S), SDK]


def test_what_is_offered_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = acceptance.names(tmp_path)
    with cloud_process(tmp_path, HOSTS, "--sim-stop-s", STOP_S) as cloud:
        admin, member = acceptance.prepared(cloud)
        start = time.monotonic()
        results = acceptance.results(admin, tmp_path)
        results += acceptance.results(member, tmp_path, ["/compute/v2"], OF_USERS)
        seconds = time.monotonic() - start
        said = cloud.log()
    judgement = judged(results, wanted, read_known(HERE / "not_offered.toml"), reasons=())

    text = _report(judgement, seconds)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(text)
    with capsys.disabled():
        sys.stdout.write("\n" + text)
    assert not judgement.wrong
    assert "Traceback" not in said
    assert judgement.passed


def _report(judgement: Judgement, seconds: float) -> str:
    """Counts, reasons and failures, as Markdown."""
    n_skipped, n_known = judgement.skipped.total(), judgement.not_offered.total()
    n_all = len(judgement.passed) + n_skipped + n_known + len(judgement.wrong)
    areas = Counter(name.partition(".")[0] for name in judgement.passed)
    lines = chain(
        [
            f"{n_all} tests in {seconds / 60:.0f} min: {len(judgement.passed)} passed, {n_skipped} skipped, "
            f"{n_known} not offered, {len(judgement.wrong)} wrong.",
            "",
        ],
        _table("package", "passed", areas),
        _table("not offered, and fails", "tests", judgement.not_offered),
        _table("skipped by gophercloud, in its words", "tests", judgement.skipped),
        (f"### {name}\n\n{why[-SHOWN:]}\n" for name, why in judgement.wrong.items()),
    )
    return "\n".join(lines)


def _table(what: str, of: str, counts: Counter[str]) -> Iterator[str]:
    yield f"| {what} | {of} |"
    yield "|---|---|"
    yield from (f"| {name} | {n} |" for name, n in sorted(counts.items(), key=lambda one: (-one[1], one[0])))
    yield ""
