"""RPM's database without RPM."""

import sqlite3
import struct
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.doctor.trees import QUIET, written

from muster.doctor.reader import read_facts
from muster.doctor.rpm import rpm_versions, strings


def header(name: str, version: str) -> bytes:
    """As RPM stores a package: a number between the strings, as there are many."""
    data = name.encode() + b"\0" + version.encode() + b"\0" + struct.pack(">I", 7)
    tags = [(1000, 6, 0, 1), (1001, 6, len(name) + 1, 1), (1003, 4, len(data) - 4, 1)]
    return struct.pack(">II", len(tags), len(data)) + b"".join(struct.pack(">IIII", *tag) for tag in tags) + data


def database(place: Path, packages: dict[str, str]) -> None:
    place.parent.mkdir(parents=True)
    with sqlite3.connect(place) as base:
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
        base.execute("CREATE TABLE Name (key TEXT NOT NULL, hnum INTEGER NOT NULL, idx INTEGER NOT NULL)")
        for number, (name, version) in enumerate(packages.items(), start=1):
            base.execute("INSERT INTO Packages VALUES (?, ?)", (number, header(name, version)))
            base.execute("INSERT INTO Name VALUES (?, ?, 0)", (name, number))
    base.close()


def test_the_parts_of_a_host_by_its_rpms(tmp_path: Path) -> None:
    packages = {
        "qemu-kvm-core": "9.1.0",
        "libvirt-daemon": "10.10.0",
        "openvswitch3.4": "3.4.1",
        "bash": "5.1",
        "dnsmasq": "2.85",
    }
    place = written(tmp_path, QUIET) / "var/lib/rpm/rpmdb.sqlite"
    database(place, packages)
    before = sorted(path.name for path in place.parent.iterdir())
    facts = read_facts(tmp_path)
    found = {part: version for part, version in facts.versions.items() if part != "kernel"}
    assert found == {"qemu": (9, 1, 0), "libvirt": (10, 10, 0), "openvswitch": (3, 4, 1), "dnsmasq": (2, 85)}
    assert sorted(path.name for path in place.parent.iterdir()) == before


def test_what_is_no_database_says_nothing(tmp_path: Path) -> None:
    root = written(tmp_path, QUIET | {"/var/lib/rpm/rpmdb.sqlite": "nonsense"})
    assert list(read_facts(root).versions) == ["kernel"]


@given(st.binary(max_size=80))
def test_whatever_bytes_a_header_has_it_is_read(data: bytes) -> None:
    strings(data)
    assert rpm_versions([data, header("dnsmasq", "2.90")[: 8 + len(data)]]) in ({}, {"dnsmasq": (2, 90)})
