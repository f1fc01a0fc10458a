"""Known-bad versions: the data file is whole, ranges end where they say, versions are read as they are written."""

from pathlib import Path

import pytest
from tests.unit.doctor.trees import QUIET, facts_of, level, results

from muster.doctor.facts import Facts
from muster.doctor.findings import Level
from muster.doctor.known_bad import PARTS, entries
from muster.doctor.texts import Version, dpkg_versions, first_version, is_within, kernel_version, version


def named(versions: dict[str, Version]) -> set[str]:
    found = results("versions.known-bad", Facts(files={}, versions=versions))
    return {result.found.partition(":")[0] for result in found if result.level is not Level.GOOD}


def test_entries_are_whole() -> None:
    assert len(entries()) >= 12
    assert len({entry.id for entry in entries()}) == len(entries())
    for entry in entries():
        assert set(entry.parts) <= set(PARTS)
        assert entry.level in (Level.PROBLEM, Level.ADVICE)
        assert "https://" in entry.source
        bounds = [(part.at_least, part.below) for part in entry.parts.values()] + entry.branches
        assert any(first or last for first, last in bounds)
        for first, last in bounds:
            assert version(first) or not first
            assert version(last) or not last
            assert not (first and last) or version(first) < version(last)


def test_every_entry_is_found_at_its_first_version_and_not_after_its_last() -> None:
    for entry in entries():
        ranges = entry.branches or [(part.at_least, part.below) for part in list(entry.parts.values())[:1]]
        others = {part: version(bound.at_least) or (0, 1) for part, bound in entry.parts.items()}
        main = next(iter(entry.parts))
        for first, last in ranges:
            assert entry.id in named(others | {main: version(first) or (0, 1)})
            assert not last or entry.id not in named(others | {main: version(last)})


def test_a_combination_needs_all_its_parts() -> None:
    assert "libvirt-qemu-unplug" in named({"libvirt": (7, 10, 0), "qemu": (6, 2, 0)})
    assert "libvirt-qemu-unplug" not in named({"libvirt": (7, 10, 0), "qemu": (6, 1, 0)})
    assert "libvirt-qemu-unplug" not in named({"libvirt": (7, 10, 0)})


def test_nothing_known_is_not_good() -> None:
    assert level("versions.known-bad", Facts(files={})) is Level.NOT_KNOWN


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9.0.0-4+deb12u2", (9, 0, 0)),
        ("1:7.2+dfsg-7+deb12u18+b3", (7, 2)),
        ("2.90-4~deb12u2", (2, 90)),
        ("2:9.0.0-4", (9, 0, 0)),
        ("v1", ()),
        ("", ()),
        ("9" * 5000 + ".1", ()),
    ],
)
def test_versions_of_packages(text: str, expected: Version) -> None:
    assert version(text) == expected


@pytest.mark.parametrize(
    ("release", "banner", "signature", "expected"),
    [
        ("6.1.0-15-amd64", "Linux version 6.1.0-15-amd64 ... #1 SMP Debian 6.1.66-1 (2023)", "", (6, 1, 66)),
        ("5.15.0-91-generic", "Linux version ...", "Ubuntu 5.15.0-91.101-generic 5.15.131", (5, 15, 131)),
        ("6.18.44-fc", "Linux version 6.18.44-fc", "", (6, 18, 44)),
        ("5.14.0-362.8.1.el9_3.x86_64", "Linux version", "", None),
        ("", "", "", None),
    ],
)
def test_versions_of_kernels(release: str, banner: str, signature: str, expected: Version | None) -> None:
    assert kernel_version(release, banner, signature) == expected


def test_what_programs_print() -> None:
    assert first_version("QEMU emulator version 8.2.1 (qemu-kvm-8.2.1-3.fc40)") == (8, 2, 1)
    assert first_version("Dnsmasq version 2.90  Copyright") == (2, 90)
    assert first_version("") is None


def test_bounds() -> None:
    assert is_within((2, 87), (), (2, 88))
    assert not is_within((2, 87, 0), (), (2, 87))
    assert is_within((9, 0), (9, 0, 0), ())


def test_only_installed_packages_count() -> None:
    gone = "Package: dnsmasq-base\nStatus: deinstall ok config-files\nVersion: 2.80-1\n"
    assert dpkg_versions(gone) == {}


def test_a_package_that_is_held_is_installed() -> None:
    held = "Package: qemu-system-x86\nStatus: hold ok installed\nVersion: 1:7.1.0-1\n"
    assert dpkg_versions(held) == {"qemu": (7, 1, 0)}


def test_what_is_only_installed_harms_nobody_yet(tmp_path: Path) -> None:
    """libvirt's packages bring dnsmasq along, whether anybody runs it or not."""
    old = {"/var/lib/dpkg/status": "Package: dnsmasq-base\nStatus: install ok installed\nVersion: 2.85-1\n"}
    (result,) = [one for one in results("versions.known-bad", facts_of(tmp_path / "a", QUIET | old)) if one.mend][:1]
    assert (result.level, "does not run now" in result.found) == (Level.ADVICE, True)
    runs = {"/proc/7/comm": "dnsmasq", "/proc/7/cmdline": "dnsmasq\0"}
    assert level("versions.known-bad", facts_of(tmp_path / "b", QUIET | old | runs)) is Level.PROBLEM


def test_every_entry_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "doctor.md").read_text(encoding="utf-8")
    for entry in entries():
        assert f"| `{entry.id}` | {entry.level.value} | {entry.fault} | {entry.source} |" in text
