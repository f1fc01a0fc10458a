"""How hard a host works: Linux's pressure stall information."""

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
