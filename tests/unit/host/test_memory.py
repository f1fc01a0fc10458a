"""What a host has of memory, read from made-up trees of files."""

from pathlib import Path

import pytest

from muster.host.memory import Memory, MemoryReader

MIB = 2**20
UNLIMITED = 9223372036854771712


def write(root: Path, files: dict[str, object]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(
        tmp_path,
        {
            "proc/meminfo": f"MemTotal: {8000 * 1024} kB\nMemFree: 5 kB\nMemAvailable: {6000 * 1024} kB\nHugePages: 0",
            "proc/pressure/memory": "some avg10=2.50 avg60=0.00 avg300=0.00 total=7\nfull avg10=1.00 total=7",
        },
    )
    return tmp_path


def v1(root: Path, folder: str, limit: int, used: int, cache: int) -> None:
    write(
        root,
        {
            f"{folder}/memory.limit_in_bytes": limit,
            f"{folder}/memory.usage_in_bytes": used,
            f"{folder}/memory.stat": f"inactive_file 1\ntotal_inactive_file {cache}",
        },
    )


def test_a_machine_without_groups(root: Path) -> None:
    assert MemoryReader(root)() == Memory(total_mib=8000, available_mib=6000, stalled=0.025)


def test_the_tightest_group_counts_at_whatever_height_it_is(root: Path) -> None:
    mounts = "9 8 0:1 / /sys/fs/cgroup/memory rw shared:1 - cgroup cgroup rw,memory\n8 1 0:2 / / rw - ext4 /dev/vda rw"
    write(root, {"proc/self/cgroup": "4:memory:/a/b\n3:cpuset:/x", "proc/self/mountinfo": mounts})
    v1(root, "sys/fs/cgroup/memory", UNLIMITED, 1, 0)
    v1(root, "sys/fs/cgroup/memory/a", 1000 * MIB, 900 * MIB, 50 * MIB)
    v1(root, "sys/fs/cgroup/memory/a/b", 2000 * MIB, 400 * MIB, 0)
    assert MemoryReader(root)() == Memory(total_mib=1000, available_mib=150, stalled=0.025)
    v1(root, "sys/fs/cgroup/memory/a", 3000 * MIB, 2900 * MIB, 0)
    assert MemoryReader(root)() == Memory(total_mib=2000, available_mib=100, stalled=0.025)
    v1(root, "sys/fs/cgroup/memory/a", UNLIMITED, 0, 0)
    assert MemoryReader(root)() == Memory(total_mib=2000, available_mib=1600, stalled=0.025)
    v1(root, "sys/fs/cgroup/memory", 7000 * MIB, 6990 * MIB, 0)
    assert MemoryReader(root)() == Memory(total_mib=2000, available_mib=10, stalled=0.025)


def test_unified_groups_in_a_container_that_sees_a_part_of_them(root: Path) -> None:
    """The mount shows the tree from /box on; `max` is no limit; the group's own pressure counts."""
    mount = "9 8 0:1 /box /sys/fs/cgroup rw - cgroup2 cgroup rw"
    write(root, {"proc/self/cgroup": "0::/box/guests", "proc/self/mountinfo": mount})
    write(root, {"sys/fs/cgroup/memory.max": "max", "sys/fs/cgroup/guests/memory.max": 512 * MIB})
    write(root, {"sys/fs/cgroup/guests/memory.current": 600 * MIB, "sys/fs/cgroup/guests/memory.stat": "anon 5"})
    write(root, {"sys/fs/cgroup/guests/memory.pressure": "some avg10=40.00 avg60=0.00 avg300=0.00 total=9"})
    assert MemoryReader(root)() == Memory(total_mib=512, available_mib=0, stalled=0.4)


@pytest.mark.parametrize("text", ["", "MemTotal: 5 kB", "MemTotal: x kB\nMemAvailable: 1 kB"])
def test_a_kernel_that_does_not_tell_is_no_error(tmp_path: Path, text: str) -> None:
    assert MemoryReader(tmp_path)() is None
    write(tmp_path, {"proc/meminfo": text})
    assert MemoryReader(tmp_path)() is None


def test_this_machine_tells() -> None:
    memory = MemoryReader()()
    assert memory is not None
    assert 0 < memory.available_mib <= memory.total_mib
