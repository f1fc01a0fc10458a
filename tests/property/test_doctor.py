"""Whatever stands in a host's files, `muster doctor` looks, and says something of everything."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.doctor.trees import COMPUTE, MUSTER_HOST, written

from muster.doctor.diagnosis import CHECKS, diagnose
from muster.doctor.findings import Plan
from muster.doctor.reader import read_facts

IN_USE = {
    "/proc/loadavg": "0.1 0.1 0.1 1/300 9\n",
    "/proc/stat": "btime 1000000\n",
    "/proc/100/stat": "100 (libvirtd) S 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 500 7\n",
    "/proc/self/mountinfo": "21 1 8:1 / / rw - ext4 /dev/sda rw\n",
    "/proc/100/mountinfo": "22 1 8:1 / / rw - ext4 /dev/sda rw\n",
    "/proc/100/root/etc/libvirt/qemu.conf": "max_files = 9\n",
    "/proc/200/net/dev": "Inter-|\n eth0: 1\n",
    "/proc/201/status": "PPid: 200\n",
    "/proc/400/comm": "qemu-system-x86\n",
    "/proc/400/cmdline": "qemu\0-machine\0pc\0",
    "/proc/400/cgroup": "0::/machine.slice/x\n",
    "/proc/net/stat/arp_cache": "entries table_fulls\n1 0\n",
    "/proc/net/stat/nf_conntrack": "entries drop early_drop\n1 0 0\n",
    "/sys/fs/cgroup/machine.slice/memory.max": "max\n",
    "/etc/kolla/nova-compute/nova.conf": "[DEFAULT]\n",
    "/var/lib/rpm/rpmdb.sqlite": "",
}
ODD = {"/etc/rabbitmq/rabbitmq.conf": "", "/etc/muster/odd.toml": "", "/etc/nova/odd.conf": ""}
TREE = COMPUTE | MUSTER_HOST | IN_USE | ODD
PIECES = ("=", "[", "]", "#", '"', "\n", "\0", ":", " ", "0", "-1", "9" * 30, "max", "unlimited", ".", "²", "a", "/")
GARBAGE = st.binary(max_size=40) | st.lists(st.sampled_from(PIECES)).map(lambda parts: "".join(parts).encode())
SPOILT = st.dictionaries(st.sampled_from(sorted(TREE)), st.tuples(GARBAGE, st.integers(0, 500)), min_size=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("host"), TREE)


def spoilt(original: bytes, garbage: bytes, where: int) -> bytes:
    """Garbage alone, or in the middle of what belongs there."""
    place = where % (len(original) + 1)
    return garbage if where % 3 == 0 else original[:place] + garbage + original[place:]


@settings(max_examples=40, deadline=None)
@given(garbage=SPOILT, guests=st.integers(1, 100_000))
def test_garbage_is_looked_at_like_anything(root: Path, garbage: dict[str, tuple[bytes, int]], guests: int) -> None:
    try:
        for path, (text, where) in garbage.items():
            (root / path[1:]).write_bytes(spoilt(TREE[path].encode(), text, where))
        findings = diagnose(read_facts(root, verdict=Path("/verdict.json")), Plan(guests=guests))
    finally:
        written(root, {path: TREE[path] for path in garbage})
    assert {finding.check for finding in findings} == {check.id for check in CHECKS}
    assert all(finding.found for finding in findings)
