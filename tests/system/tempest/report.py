"""A judgement as Markdown: what `docs/transcripts/tempest.md` is made of."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain

from tests.system.tempest.judgement import Judgement

SHOWN = 2_000  # of what Tempest says about a failure, its end


def report(judgement: Judgement, seconds: float, workers: int) -> str:
    """Counts, reasons and failures."""
    n_skipped, n_known = judgement.skipped.total(), judgement.not_offered.total()
    n_all = len(judgement.passed) + n_skipped + n_known + len(judgement.wrong)
    lines = chain(
        [
            f"{n_all} tests in {seconds / 60:.0f} min, {workers} at a time: {len(judgement.passed)} passed, "
            f"{n_skipped} skipped, {n_known} not offered, {len(judgement.wrong)} wrong.",
            "",
        ],
        _table(("area", "passed"), Counter(_area(name) for name in judgement.passed)),
        _table(("not offered, and fails", "tests"), judgement.not_offered),
        _table(("skipped by Tempest, since the configuration says so", "tests"), judgement.skipped),
        (f"### {name}\n\n{why[-SHOWN:]}\n" for name, why in judgement.wrong.items()),
    )
    return "\n".join(lines)


def _table(head: tuple[str, str], counts: Counter[str]) -> Iterator[str]:
    yield f"| {head[0]} | {head[1]} |"
    yield "|---|---|"
    yield from (f"| {what} | {n} |" for what, n in sorted(counts.items(), key=lambda one: (-one[1], one[0])))
    yield ""


def _area(name: str) -> str:
    """`tempest.api.compute.servers.test_x.X.test_y`: `compute.servers`; what lies in `compute` itself: `compute`."""
    return ".".join(part for part in name.split(".")[2:4] if not part.startswith("test_"))
