"""How many guests may boot at a time on a host: what an operator may say, and what is right if nothing is said."""

from msgspec import Struct

from muster.base.errors import Invalid

AUTOMATIC, UNLIMITED = "auto", "unlimited"
#: An operator's number is taken as it is; beyond this it is a mistake.
_MOST = 10_000
#: PSI's shares go up to 1: this is never reached.
_NEVER = 2.0


class BootSettings(Struct, frozen=True, kw_only=True):
    """How many guests may boot at a time on a host. A boot ends with the guest's DHCP lease, or after `boot_limit_s`;
    that of a guest that gets none, after as long as boots took lately (a quarter of `boot_limit_s` before the first).

    `limit` is where the number starts; it stays between `limit_min` and `limit_max`. Above one of the pressures it is
    halved, at most once per `hold_s`, and comes back by one per `sample_s` while guests wait. What leads it beyond
    `limit` is the pressure too, as long as that is low, or, with `by_boot_times` and where the kernel tells no
    pressure, whether more at a time make more boots per second (`boot_limit`).
    """

    limit: int = 3
    limit_min: int = 1
    limit_max: int = 16
    by_boot_times: bool = False
    boot_limit_s: float = 60.0
    sample_s: float = 2.0
    hold_s: float = 10.0
    cpu: float = 0.75
    io: float = 0.40
    memory: float = 0.10


def check_boots(asked: str) -> str:
    """What an operator said: `auto`, `unlimited`, or a number of 1 or more. Raises Invalid."""
    if asked in (AUTOMATIC, UNLIMITED) or (asked.isascii() and asked.isdigit() and 1 <= int(asked) <= _MOST):
        return asked
    raise Invalid(f"{asked!r} is no number of boots at a time; expected {AUTOMATIC}, {UNLIMITED} or 1 to {_MOST}")


def boot_settings(asked: str, *, emulated: bool, n_cpus: int) -> BootSettings:
    """The settings of a host with so many processors. Raises Invalid.

    An emulated boot is nothing but work for one processor: with as many at a time as there are processors all are
    busy, whatever the pressure says of them. More pay only as far as a boot waits for something in between, and each
    makes all of them cost more (20 at once on two processors: twice the CPU time of three at a time).
    """
    if check_boots(asked) != AUTOMATIC:
        number = _MOST if asked == UNLIMITED else int(asked)
        return BootSettings(limit=number, limit_min=number, limit_max=number)
    if emulated:
        return BootSettings(limit=n_cpus, limit_max=n_cpus + -(-n_cpus // 2), by_boot_times=True, cpu=_NEVER)
    return BootSettings(limit=n_cpus, limit_max=8 * n_cpus)
