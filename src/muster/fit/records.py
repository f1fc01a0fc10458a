"""What a run finds out, and what it advises; also the schema of `--json`."""

import math
from collections.abc import Sequence

import msgspec

from muster.base.percentile import percentile
from muster.fit.options import FitOptions

SCHEMA = "muster.fit/1"


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """What the hosts have, all together, and what a guest is promised. None: the cloud does not tell this user.

    `reserved_mib` is what the hosts keep for themselves, known where no other server is on them.
    """

    hosts: tuple[str, ...] = ()
    vcpus: int | None = None
    ram_mib: int | None = None
    reserved_mib: int = 0
    others: int = 0
    guest_vcpus: int
    guest_ram_mib: int


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """How guests answered: round trips in seconds (a probe that failed counts as its timeout), how many failed."""

    round_trips_s: Sequence[float]
    failed: int = 0
    saved_mib: float | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One try. `within`: the bound held. `reason` says why so many guests could not be had; then nothing is measured.

    `probes` are the moments at which a guest was asked, or would have been if it had answered the question before.
    `saved_mib`: what merging of equal pages (KSM) saved, where it can be read.
    """

    guests: int
    within: bool
    reason: str | None = None
    probes: int = 0
    failed: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    ram_ratio: float | None = None
    cpu_ratio: float | None = None
    saved_mib: float | None = None


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """The most guests within the bound, and what that is of the hosts' memory and processors.

    `ram_overcommit` and `cpu_overcommit` are the lowest settings with which the cloud accepts that many: memory's is of
    what is left beside what hosts keep for themselves. `limited_by`: `bound`, `cloud` (it gave no more) or `most`
    (nobody looked further); `nothing`: not even one guest kept to the bound; `failure`: the run ended early, and this
    is what held until then, if anything did.
    """

    guests: int
    limited_by: str
    ram_ratio: float | None = None
    cpu_ratio: float | None = None
    ram_overcommit: float | None = None
    cpu_overcommit: float | None = None


class FitResult(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run, or one up to a `failure`, such as of the API. `leftovers` is what could not be removed. The load is
    left out of `options`: it may hold secrets.
    """

    schema: str = SCHEMA
    cloud: str
    started_at: str
    options: FitOptions
    room: Room
    steps: list[Step]
    advice: Advice
    failure: str | None = None
    leftovers: list[str] = []
    duration_s: float = 0.0


def measured(guests: int, answers: Answers, room: Room, options: FitOptions) -> Step:
    """The step that these answers make. A step without answers is not within the bound."""
    ordered = sorted(answers.round_trips_s)
    values = {percent: 1000 * percentile(ordered, percent) for percent in (50, 95, 99)} if ordered else {}
    return Step(
        guests=guests,
        within=bool(values) and values[options.percentile] <= options.bound_ms,
        probes=len(ordered),
        failed=answers.failed,
        p50_ms=values.get(50),
        p95_ms=values.get(95),
        p99_ms=values.get(99),
        ram_ratio=ratio(guests * room.guest_ram_mib, room.ram_mib),
        cpu_ratio=ratio(guests * room.guest_vcpus, room.vcpus),
        saved_mib=answers.saved_mib,
    )


def refused(guests: int, reason: str, room: Room) -> Step:
    """The step of guests that could not be had."""
    return Step(
        guests=guests,
        within=False,
        reason=reason,
        ram_ratio=ratio(guests * room.guest_ram_mib, room.ram_mib),
        cpu_ratio=ratio(guests * room.guest_vcpus, room.vcpus),
    )


def advise(best: int, room: Room, steps: Sequence[Step], *, hit_most: bool, failed: bool = False) -> Advice:
    """What follows from the steps, also where they `failed` to come to an end."""
    left_mib = room.ram_mib - room.reserved_mib if room.ram_mib is not None else None
    next_up = min((step.guests for step in steps if step.guests > best), default=None)
    given_no_more = any(step.reason for step in steps if step.guests == next_up)
    limits = {"failure": failed, "nothing": not best, "most": hit_most, "cloud": given_no_more}
    return Advice(
        guests=best,
        limited_by=next((limit for limit, holds in limits.items() if holds), "bound"),
        ram_ratio=ratio(best * room.guest_ram_mib, room.ram_mib),
        cpu_ratio=ratio(best * room.guest_vcpus, room.vcpus),
        ram_overcommit=_upwards(ratio(best * room.guest_ram_mib, left_mib)),
        cpu_overcommit=_upwards(ratio(best * room.guest_vcpus, room.vcpus)),
    )


def ratio(promised: int, there: int | None) -> float | None:
    """How often something is given away; None where it is not known, or nothing."""
    return promised / there if there and there > 0 else None


def _upwards(value: float | None) -> float | None:
    """To two digits, never below: a setting that is rounded down lets one guest fewer in."""
    return None if value is None else math.ceil(round(100 * value, 6)) / 100
