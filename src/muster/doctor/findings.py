"""What a check is and what it says. Check ids are stable: scripts read them."""

from collections.abc import Callable, Iterable
from enum import StrEnum

from msgspec import Struct, field

from muster.doctor.facts import Facts


class Level(StrEnum):
    """How bad it is. NOT_KNOWN: could not be read, which is said as it is and never taken as good."""

    PROBLEM = "problem"
    ADVICE = "advice"
    NOT_KNOWN = "not known"
    GOOD = "good"


class Plan(Struct, frozen=True, kw_only=True):
    """What the host is to do: guests planned on it, and after how many idle seconds firewalls forget a connection.

    `idle_timeout_s` is None when nobody said it.
    """

    guests: int
    idle_timeout_s: int | None = None


class Result(Struct, frozen=True, kw_only=True):
    """What one check found. `mend` is a command or a line; `sysctls` is what `--fix` may set.

    `cost` and `source` replace those of the check where each case has its own.
    """

    level: Level
    found: str
    mend: str = ""
    sysctls: dict[str, int] = field(default_factory=dict)
    cost: str = ""
    source: str = ""


Run = Callable[[Facts, Plan], Iterable[Result]]


class Check(Struct, frozen=True, kw_only=True):
    """One thing to look at: `cost` says what it costs when it is wrong, `source` who says so (R: docs/doctor.md)."""

    id: str
    what: str
    cost: str
    source: str
    run: Run


class Finding(Struct, frozen=True, kw_only=True):
    """A result with its check: a row of the table, an object of the JSON."""

    check: str
    level: Level
    what: str
    found: str
    cost: str
    mend: str
    source: str
    sysctls: dict[str, int]


def good(found: str) -> list[Result]:
    """Nothing to do."""
    return [Result(level=Level.GOOD, found=found)]


def advice(found: str, mend: str, sysctls: dict[str, int] | None = None) -> list[Result]:
    """It works, and could be better."""
    return [Result(level=Level.ADVICE, found=found, mend=mend, sysctls=sysctls or {})]


def problem(found: str, mend: str, sysctls: dict[str, int] | None = None) -> list[Result]:
    """Guests are lost, or wait, because of it."""
    return [Result(level=Level.PROBLEM, found=found, mend=mend, sysctls=sysctls or {})]


def not_known(why: str) -> list[Result]:
    """It could not be read."""
    mend = "sudo muster doctor" if "denied" in why else ""
    return [Result(level=Level.NOT_KNOWN, found=why, mend=mend)]
