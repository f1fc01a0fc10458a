"""Known-bad versions and combinations (R B1): the data file's entries against the versions found.

A distribution may have mended its package without another version number, so every finding says to look there.
"""

import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

import msgspec
from msgspec import Struct, field

from muster.doctor.facts import Facts
from muster.doctor.findings import Check, Level, Plan, Result, good, not_known
from muster.doctor.texts import Version, dotted, is_within, version

PARTS = ("kernel", "qemu", "libvirt", "openvswitch", "dnsmasq")

_RUN_BY = {
    "qemu": ("qemu",),
    "libvirt": ("libvirtd", "virtqemud"),
    "openvswitch": ("ovs-vswitchd",),
    "dnsmasq": ("dnsmasq",),
}


class Range(Struct, frozen=True, forbid_unknown_fields=True):
    """Versions from the first that has a fault to the first that has it no more; empty: unknown."""

    at_least: str = field(default="", name="from")
    below: str = ""


class Entry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault. `branches` are the kernel's ranges where several branches were mended, each as [from, below]."""

    id: str
    level: Level
    fault: str
    cost: str
    mend: str
    source: str
    parts: dict[str, Range]
    branches: list[tuple[str, str]] = []

    def matches(self, versions: dict[str, Version]) -> bool:
        """Whether all its parts are there in such versions."""
        return all(part in versions and self._has(part, versions[part]) for part in self.parts)

    def _has(self, part: str, found: Version) -> bool:
        if part == "kernel" and self.branches:
            return any(is_within(found, version(first), version(last)) for first, last in self.branches)
        wanted = self.parts[part]
        return is_within(found, version(wanted.at_least), version(wanted.below))


class _File(Struct, forbid_unknown_fields=True):
    entry: list[Entry]


@cache
def entries() -> tuple[Entry, ...]:
    """What the data file says. One file read, once."""
    text = files("muster.doctor").joinpath("known_bad.toml").read_text(encoding="utf-8")
    return tuple(msgspec.convert(tomllib.loads(text), _File).entry)


def _check(facts: Facts, _: Plan) -> Iterable[Result]:
    versions = {part: facts.versions[part] for part in PARTS if part in facts.versions}
    said = ", ".join(f"{part} {dotted(number)}" for part, number in versions.items())
    if not versions:
        return not_known("No version of kernel, QEMU, libvirt, Open vSwitch or dnsmasq could be found")
    found = _faults(facts, versions, entries())
    for other in facts.other_versions:
        found += _faults(facts, versions | other, [entry for entry in entries() if entry.parts.keys() & other.keys()])
    hidden = [part for part in PARTS if part not in versions and facts.named(*_RUN_BY.get(part, ()))]
    found += not_known(f"{', '.join(hidden)}: it runs here, and its version could not be found") if hidden else []
    return _each_once(found) or good(f"No known fault of {said}")


def _faults(facts: Facts, versions: dict[str, Version], known: Iterable[Entry]) -> list[Result]:
    return [
        Result(
            level=Level.ADVICE if _is_idle(facts, entry) else entry.level,
            found=f"{entry.id}: {', '.join(f'{part} {dotted(versions[part])}' for part in entry.parts)}"
            f"{', which does not run now' if _is_idle(facts, entry) else ''}: {entry.fault}",
            mend=f"{entry.mend} (your distribution's package may have the fix: see its changelog)",
            cost=entry.cost,
            source=entry.source,
        )
        for entry in known
        if entry.matches(versions)
    ]


def _is_idle(facts: Facts, entry: Entry) -> bool:
    """dnsmasq is installed with libvirt, and harms nobody where none runs."""
    return "dnsmasq" in entry.parts and not facts.named("dnsmasq") and not facts.unseen


def _each_once(found: list[Result]) -> list[Result]:
    return [one for place, one in enumerate(found) if one not in found[:place]]


CHECKS = (
    Check(
        id="versions.known-bad",
        what="Versions with known faults",
        cost="Guests, or their network, are lost through faults that others have found already",
        source="R B1, B4; each fault's own source",
        run=_check,
    ),
)
