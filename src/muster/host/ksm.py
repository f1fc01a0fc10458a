"""Merging of equal pages (KSM): what the kernel tells of it, how it is switched, and how hard it should look.

Source: Linux's documentation, admin-guide/mm/ksm.rst. The figures of `KsmTuning` are those of ksmtuned, which most
distributions of KVM hosts have used since 2009.
"""

import resource
from enum import StrEnum
from pathlib import Path

from msgspec import Struct

PAGE_BYTES = resource.getpagesize()


class KsmMode(StrEnum):
    """Who decides. `off`: Muster leaves KSM alone; `auto`: on while memory is scarce; `on`: always on."""

    OFF = "off"
    ON = "on"
    AUTO = "auto"


class Knobs(Struct, frozen=True):
    """What can be set: `run` 0 stops (what is merged stays so), 1 runs, 2 stops and unmerges."""

    run: int
    pages_to_scan: int
    sleep_millisecs: int


class Savings(Struct, frozen=True):
    """What it has brought: `saved_bytes` would be needed on top without it; `shared_bytes` hold what is merged."""

    saved_bytes: int
    shared_bytes: int


class KsmTuning(Struct, frozen=True, kw_only=True):
    """How hard the kernel looks: so many pages, then a pause.

    Memory is scarce while less than the share `scarce` of it is available: the number of pages grows by `boost` per
    look; otherwise it shrinks by `decay`. In mode `auto` it is switched off again once `plenty` is available. The
    pause is for a host of 16 GiB; larger ones pause less.
    """

    scarce: float = 0.20
    plenty: float = 0.35
    pages_min: int = 64
    pages_max: int = 1_250
    boost: int = 300
    decay: int = 50
    sleep_millisecs: int = 100
    sleep_min_millisecs: int = 10


def tuned(tuning: KsmTuning, mode: KsmMode, now: Knobs, *, total_mib: int, available_mib: int) -> Knobs:
    """How the knobs should stand, given how they do and what memory there is. Pure. Not for mode `off`."""
    free = available_mib / total_mib
    pages = now.pages_to_scan + (tuning.boost if free < tuning.scarce else -tuning.decay)
    goes_on = now.run == 1 and free < tuning.plenty
    return Knobs(
        run=int(mode is KsmMode.ON or free < tuning.scarce or goes_on),
        pages_to_scan=max(tuning.pages_min, min(tuning.pages_max, pages)),
        sleep_millisecs=max(tuning.sleep_min_millisecs, tuning.sleep_millisecs * 16_384 // max(total_mib, 16_384)),
    )


class KsmFiles:
    """The kernel's files. Each read or write is a few small files in sysfs; a write waits for the scan in progress."""

    def __init__(self, folder: Path = Path("/sys/kernel/mm/ksm")) -> None:
        self._folder = folder

    def knobs(self) -> Knobs | None:
        """How they stand; None where the kernel has no KSM, or does not tell."""
        try:
            return Knobs(*(self._number(name) for name in Knobs.__struct_fields__))
        except (OSError, ValueError):
            return None

    def set(self, knobs: Knobs) -> None:
        """Set them; how hard to look first, then whether. Raises OSError."""
        for name in reversed(Knobs.__struct_fields__):
            value = getattr(knobs, name)
            if self._number(name) != value:
                (self._folder / name).write_text(str(value))

    def savings(self) -> Savings | None:
        """What it has brought; None where the kernel does not tell."""
        try:
            return Savings(self._number("pages_sharing") * PAGE_BYTES, self._number("pages_shared") * PAGE_BYTES)
        except (OSError, ValueError):
            return None

    def tunes_itself(self) -> bool:
        """Whether the kernel's own advisor decides how many pages are scanned (Linux 6.8 and later)."""
        try:
            return "[none]" not in (self._folder / "advisor_mode").read_text()
        except OSError:
            return False

    def _number(self, name: str) -> int:
        return int((self._folder / name).read_text())
