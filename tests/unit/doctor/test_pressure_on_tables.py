"""What the kernel counted: tables that are full, or were, are problems whatever the number of guests is."""

from pathlib import Path

import pytest
from tests.unit.doctor.trees import QUIET, facts_of, level, results

from muster.doctor.findings import Level

GOOD, ADVICE, PROBLEM, NOT_KNOWN = Level.GOOD, Level.ADVICE, Level.PROBLEM, Level.NOT_KNOWN
THRESHOLD = "/proc/sys/net/ipv4/neigh/default/gc_thresh3"
MOST = {"/proc/sys/net/netfilter/nf_conntrack_max": "65536"}


@pytest.mark.parametrize(
    ("entries", "fulls", "most", "expected"),
    [
        ("10", "0", 1024, ADVICE),
        ("3ff", "0", 1024, PROBLEM),
        ("10", "2", 1024, PROBLEM),
        ("10", "2", 8192, GOOD),  # mended since the boot
        ("1fff", "0", 8192, PROBLEM),
    ],
)
def test_a_table_of_neighbours_that_is_full_or_was(
    tmp_path: Path, entries: str, fulls: str, most: int, expected: Level
) -> None:
    table = {"/proc/net/stat/arp_cache": f"entries table_fulls\n{entries} {fulls}\n{entries} 0\n", THRESHOLD: str(most)}
    assert level("limits.neighbours-ipv4", facts_of(tmp_path, QUIET | table)) is expected


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_another_namespace_than_the_first_is_not_told_its_thresholds(tmp_path: Path, family: str) -> None:
    """It was 'no IPv6 on this machine'."""
    tree = {path: text for path, text in QUIET.items() if "gc_thresh" not in path}
    (result,) = results(f"limits.neighbours-{family}", facts_of(tmp_path / "a", tree))
    assert result.level is NOT_KNOWN
    first = {"/proc/net/stat/arp_cache": "entries table_fulls\n1 0\n"}
    (result,) = results("limits.neighbours-ipv6", facts_of(tmp_path / "b", tree | first))
    assert result.level is GOOD


def test_connections_count_in_each_namespace_for_itself(tmp_path: Path) -> None:
    """Those of guests were not seen from the host's own namespace."""
    server = {
        "/proc/sys/net/netfilter/nf_conntrack_count": "7",
        "/proc/7/comm": "dnsmasq",
        "/proc/7/cmdline": "dnsmasq\0--dhcp-range=10.0.0.0,static\0",
        "/proc/7/net/stat/nf_conntrack": f"entries drop early_drop\n{60_000:x} 0 0\n{60_000:x} 0 0\n",
    }
    (result,) = results("limits.conntrack", facts_of(tmp_path, QUIET | MOST | server))
    assert (result.level, "60000 of 65536" in result.found) == (PROBLEM, True)


def test_connections_that_had_no_room(tmp_path: Path) -> None:
    table = {"/proc/net/stat/nf_conntrack": "entries drop early_drop\n5 2 0\n5 0 1\n"}
    (result,) = results("limits.conntrack", facts_of(tmp_path / "a", QUIET | MOST | table))
    assert (result.level, "3 had no room" in result.found) == (PROBLEM, True)
    met = {"/proc/net/stat/nf_conntrack": "entries insert_failed drop early_drop\n5 3 2 0\n5 0 1 0\n"}
    assert level("limits.conntrack", facts_of(tmp_path / "c", QUIET | MOST | met)) is GOOD
    mended = {"/proc/sys/net/netfilter/nf_conntrack_max": "262144"}
    assert level("limits.conntrack", facts_of(tmp_path / "b", QUIET | mended | table)) is GOOD


def test_threads_that_nearly_are_as_many_as_there_may_be(tmp_path: Path) -> None:
    tree = {"/proc/loadavg": "1.0 1.0 1.0 3/30000 99\n", "/proc/sys/kernel/pid_max": "32768"}
    pids, _ = results("limits.processes", facts_of(tmp_path, QUIET | tree))
    assert (pids.level, pids.sysctls) == (PROBLEM, {"kernel.pid_max": 65_536})


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        ({"/sys/module/apparmor/parameters/enabled": "Y\n"}, GOOD),
        ({"/sys/module/apparmor/parameters/enabled": "N\n"}, ADVICE),
        ({"/sys/module/apparmor/parameters/enabled": "N\n", "/sys/fs/selinux/enforce": "1"}, GOOD),
        ({}, ADVICE),
    ],
)
def test_the_default_confines_guests_where_the_kernel_has_what_it_takes(
    tmp_path: Path, modules: dict[str, str], expected: Level
) -> None:
    tree = {path: text for path, text in QUIET.items() if "apparmor" not in path}
    facts = facts_of(tmp_path, tree | {"/etc/libvirt/qemu.conf": ""} | modules)
    assert level("qemu.security-driver", facts) is expected


def test_in_a_copy_without_sys_nobody_knows_what_confines_guests(tmp_path: Path) -> None:
    tree = {path: text for path, text in QUIET.items() if not path.startswith("/sys/")}
    assert level("qemu.security-driver", facts_of(tmp_path, tree | {"/etc/libvirt/qemu.conf": ""})) is NOT_KNOWN
