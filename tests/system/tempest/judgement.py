"""What Tempest found, judged: every test passes, is skipped for what the configuration says, or is on the list.

The list (`not_offered.toml`) has patterns of tests and the reason why they fail; a pattern by which nothing fails any
more is a fault of the list. A class that could not be set up stands for its tests.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

OF_A_CLASS = re.compile(r"(setUpClass|tearDownClass) \((.*)\)")
Reasons = Sequence[tuple[re.Pattern[str], str]]
PASSED, SKIPPED, FAILED = "passed", "skipped", "failed"
# Tempest's words for one reason are many: of a class, of a feature. What they have in common is what is counted.
REASONS = (
    (re.compile(r"Skipped until bug|^Neutron (does not|allows)|nova-network"), "Tempest's own: bugs and nova-network"),
    (re.compile(r"microversion range\[2"), "compute microversions above 2.96"),
    (re.compile(r"[Mm]igrat"), "migration"),
    (re.compile(r"Cinder|[Vv]olume|microversion range\[3"), "volumes"),
    (re.compile(r"[Ff]loating|public_network_id|router|DVR"), "routers, floating addresses"),
    (re.compile(r"extension (is )?not (enabled|available)|extension is not"), "network extensions that are not listed"),
    (re.compile(r"[Vv]alidation (tests|should|must)"), "logging into guests: these are simulated"),
    (re.compile(r"Resize"), "resize"),
    (re.compile(r"Suspend|Pause|Shelve|rescue"), "pause, suspend, shelve, rescue"),
    (re.compile(r"[Ss]napshot"), "images of servers"),
    (
        re.compile(r"import|[Mm]ulti_?[Ss]tore|locations|http store|[Ss]tore|caching|v2\.17"),
        "image: import, stores, caches",
    ),
    (re.compile(r"Image format|certified_image"), "image: formats and certificates that Tempest is given no files for"),
    (re.compile(r"(Different|Same)HostFilter"), "the hints same_host and different_host"),
    (re.compile(r"Trusts|access rules|compliance"), "identity: trusts, access rules, rules for passwords"),
    (re.compile(r"VNC|password|FQDN"), "graphical consoles, passwords put into guests"),
)


@dataclass(frozen=True)
class Result:
    """One test: its name without tags, `passed`, `skipped` or `failed`, and why, in Tempest's words."""

    name: str
    status: str
    why: str = ""
    seconds: float = 0.0


@dataclass
class Judgement:
    """`wrong` must be empty."""

    passed: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    not_offered: Counter[str] = field(default_factory=Counter)
    wrong: dict[str, str] = field(default_factory=dict)


def read_known(path: Path) -> dict[str, str]:
    """Patterns of the names of tests, with the reason why they fail."""
    with path.open("rb") as file:
        return {pattern: entry["reason"] for entry in tomllib.load(file)["test"] for pattern in entry["names"]}


def result_of(told: Mapping[str, str | float]) -> Result:
    """What `read_results.py` has told of a test."""
    name = re.sub(r"\[.*\]$", "", str(told["name"]))
    status = {"success": PASSED, "skip": SKIPPED}.get(str(told["status"]), FAILED)
    why = str(told.get("reason") or told.get("traceback") or told["status"]).strip()
    return Result(name, status, why, float(told["seconds"]))


def judged(
    results: Sequence[Result], wanted: Iterable[str], known: Mapping[str, str], reasons: Reasons = REASONS
) -> Judgement:
    """Judge the results of the tests that were `wanted`, by their names without tags.

    `reasons` put the words for why tests are skipped together; others are counted as they are.
    """
    judgement = Judgement()
    of_classes = {(found[1], found[2]): one for one in results if (found := OF_A_CLASS.fullmatch(one.name))}
    by_name = {one.name: one for one in results}
    used: set[str] = set()
    for name in wanted:
        set_up = of_classes.get(("setUpClass", name.rpartition(".")[0]))
        one = by_name.get(name) or set_up or Result(name, FAILED, "it did not run")
        _count(judgement, Result(name, one.status, one.why), known, used, reasons)
    for (phase, class_name), one in of_classes.items():
        if phase == "tearDownClass" and one.status == FAILED:
            _count(judgement, Result(class_name, FAILED, one.why), known, used, reasons)
    for pattern in known.keys() - used:
        judgement.wrong[pattern] = "is on the list of what fails, and nothing failed by it"
    return judgement


def _count(judgement: Judgement, one: Result, known: Mapping[str, str], used: set[str], reasons: Reasons) -> None:
    if one.status == PASSED:
        judgement.passed.append(one.name)
    elif one.status == SKIPPED:
        judgement.skipped[_reason(one.why, reasons)] += 1
    elif (pattern := _known_by(one.name, known)) is not None:
        used.add(pattern)
        judgement.not_offered[known[pattern]] += 1
    else:
        judgement.wrong[one.name] = one.why


def _known_by(name: str, known: Mapping[str, str]) -> str | None:
    return next((pattern for pattern in known if re.search(pattern, name)), None)


def _reason(why: str, reasons: Reasons) -> str:
    return next((reason for pattern, reason in reasons if pattern.search(why)), why)
