"""How the number of guests that boot at a time follows what the host bears. Pure: pressures and times in, limits out.

Two ways. By pressure: additive increase and multiplicative decrease, as TCP does; it finds what the host bears without
a model of it. By boot times: a climb that tries one more and one fewer at a time in turn, and keeps more only where
that makes more boots per second. Invariant: whatever is measured, the limit stays between the settings' bounds.
"""

from msgspec import Struct
from msgspec.structs import replace

from muster.host.boot_settings import BootSettings
from muster.host.pressure import Pressure

#: So much more boots per second must one more at a time give to be kept.
_GAIN = 1.05
#: A rate is that of so many boots at least, and of two of each slot.
_BOOTS_MIN = 8
#: After a try that did not pay, so many rates are measured before the next one.
_REST = 4


def too_much(settings: BootSettings, pressure: Pressure) -> bool:
    """Whether a host under this pressure should boot fewer guests at a time."""
    return pressure.cpu > settings.cpu or pressure.io > settings.io or pressure.memory > settings.memory


def next_limit(settings: BootSettings, limit: int, pressure: Pressure | None, *, waiting: int) -> int:
    """The limit after a sample of the pressure; None where the kernel tells none."""
    top = settings.limit if settings.by_boot_times or pressure is None else settings.limit_max
    if pressure is not None and too_much(settings, pressure):
        limit //= 2
    elif waiting and limit < top:
        limit += 1
    return max(settings.limit_min, min(settings.limit_max, limit))


class Climb(Struct, frozen=True, kw_only=True):
    """A climb by boot times. `kept` is the limit that is known to be good, at `rate` boots per second; `limit` the one
    in force, which is one more or one fewer while that is tried. `since_s` and `ended` are of the rate that is being
    measured; `skip` boots began under another limit. `rest` rates are measured before the next try, which is one fewer
    where `down` says so.
    """

    limit: int
    kept: int
    rate: float = 0.0
    since_s: float | None = None
    ended: int = 0
    skip: int = 0
    rest: int = 0
    down: bool = False


def at_limit(limit: int) -> Climb:
    """A climb that begins here."""
    return Climb(limit=limit, kept=limit, skip=limit)


def boot_ended(settings: BootSettings, climb: Climb, now_s: float, *, waiting: int) -> Climb:
    """A boot has ended at `now_s` (any steady clock), and `waiting` guests wait for theirs."""
    if not waiting:  # not all slots are in use: a rate would say nothing about them
        return replace(climb, skip=0, since_s=None, ended=0)
    if climb.skip or climb.since_s is None:
        return replace(climb, skip=max(0, climb.skip - 1), since_s=None if climb.skip > 1 else now_s)
    climb = replace(climb, ended=climb.ended + 1)
    span_s = now_s - (climb.since_s or 0.0)
    if climb.ended < max(_BOOTS_MIN, 2 * climb.limit) or span_s <= 0:
        return climb
    return _judged(settings, climb, climb.ended / span_s, now_s)


def _judged(settings: BootSettings, climb: Climb, rate: float, now_s: float) -> Climb:
    """The rate of the limit in force is known. More at a time must pay, fewer must not cost: the same comparison."""
    if climb.limit > climb.kept:
        holds = rate > _GAIN * climb.rate
    else:
        holds = climb.limit == climb.kept or _GAIN * rate >= climb.rate
    if not holds:  # back to where it was good
        down = climb.limit > climb.kept
        return Climb(limit=climb.kept, kept=climb.kept, rate=climb.rate, skip=climb.limit, rest=_REST, down=down)
    here = Climb(
        limit=climb.limit, kept=climb.limit, rate=rate, since_s=now_s, rest=max(0, climb.rest - 1), down=climb.down
    )
    return here if climb.rest else _tried(settings, here)


def _tried(settings: BootSettings, climb: Climb) -> Climb:
    """One more or one fewer at a time, where the bounds let it: a climb never goes below where it started."""
    up, down = climb.limit < settings.limit_max, climb.limit > settings.limit
    if not up and not down:
        return climb
    step = -1 if down and (climb.down or not up) else 1
    return replace(climb, limit=climb.limit + step, skip=climb.limit, since_s=None, down=step < 0)
