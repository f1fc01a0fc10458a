"""How hard a host works (Linux's pressure stall information) and what that means for the number of guests booting."""

import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct


class Pressure(Struct, frozen=True):
    """Share of the time (0 to 1) in which some task waited for a resource, since it was read before."""

    cpu: float = 0.0
    io: float = 0.0
    memory: float = 0.0


# None: this machine does not tell.
PressureReader = Callable[[], Pressure | None]

_RESOURCES = ("cpu", "io", "memory")


class PsiReader:
    """Reads /proc/pressure; see the kernel's Documentation/accounting/psi.rst. A read is three small files."""

    def __init__(self, folder: Path = Path("/proc/pressure"), monotonic: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._monotonic = monotonic
        self._before: tuple[float, tuple[int, ...]] | None = None

    def __call__(self) -> Pressure | None:
        """Pressure since the last call; none on the first one or where the kernel does not tell."""
        try:
            totals = tuple(_some_total_us((self._folder / name).read_text()) for name in _RESOURCES)
        except (OSError, ValueError):
            return None
        now_s = self._monotonic()
        before, self._before = self._before, (now_s, totals)
        if before is None or now_s <= before[0]:
            return None
        span_us = (now_s - before[0]) * 1e6
        return Pressure(*(min(1.0, (new - old) / span_us) for new, old in zip(totals, before[1], strict=True)))


def _some_total_us(text: str) -> int:
    line = text.splitlines()[0] if text else ""
    kind, _, rest = line.partition(" ")
    if kind != "some" or "total=" not in rest:
        raise ValueError(line)
    return int(rest.rpartition("total=")[2])


class BootSettings(Struct, frozen=True, kw_only=True):
    """How many guests may boot at a time on a host. A boot ends with the guest's DHCP lease, or after `boot_limit_s`.

    `limit` is where the number starts; it stays between `limit_min` and `limit_max`. Above one of the pressures it is
    halved, at most once per `hold_s`; below all of them, and with guests waiting, it grows by one per `sample_s`.
    """

    limit: int = 3
    limit_min: int = 1
    limit_max: int = 16
    boot_limit_s: float = 60.0
    sample_s: float = 2.0
    hold_s: float = 10.0
    cpu: float = 0.75
    io: float = 0.40
    memory: float = 0.10


def too_much(settings: BootSettings, pressure: Pressure) -> bool:
    """Whether a host under this pressure should boot fewer guests at a time."""
    return pressure.cpu > settings.cpu or pressure.io > settings.io or pressure.memory > settings.memory


def next_limit(settings: BootSettings, limit: int, pressure: Pressure | None, *, waiting: int) -> int:
    """Additive increase, multiplicative decrease, as TCP does: finds what the host bears without a model of it."""
    if pressure is None:
        return limit
    if too_much(settings, pressure):
        limit //= 2
    elif waiting:
        limit += 1
    return max(settings.limit_min, min(settings.limit_max, limit))
