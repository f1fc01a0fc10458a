"""`muster doctor` on a host in use: a libvirtd with mounts of its own, a DHCP server whose files nobody else sees."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("libvirt")

from msgspec.structs import replace
from tests.unit.doctor.trees import results

from muster.doctor.facts import Facts, Process
from muster.doctor.findings import Level
from muster.doctor.reader import read_facts
from muster.host.hypervisor.libvirt.libvirtd import LibvirtdSettings, PrivateLibvirtd

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.timeout(600)]

_NOBODY = 65_534
_START_S = 300.0


@pytest.fixture(scope="module")
def daemon() -> Iterator[Path]:
    """The directory of a daemon that runs. Not a test's usual folder: sockets have short paths."""
    folder = Path(tempfile.mkdtemp(prefix="mdr-", dir="/tmp"))
    private = PrivateLibvirtd(LibvirtdSettings(directory=folder / "libvirtd"))
    try:
        private.start()
        yield folder / "libvirtd"
    finally:
        private.stop()
        shutil.rmtree(folder)


def only(facts: Facts, is_it: Callable[[Process], bool]) -> Facts:
    """The facts with no other of the processes that matter: others may run beside it."""
    return replace(facts, processes=tuple(process for process in facts.processes if is_it(process)))


def of_daemon(facts: Facts, directory: Path) -> Facts:
    return only(facts, lambda process: process.name == "libvirtd" and str(directory) in " ".join(process.argv))


def test_a_daemon_with_mounts_of_its_own_is_judged_by_the_files_that_it_sees(daemon: Path) -> None:
    facts = of_daemon(read_facts(Path("/")), daemon)
    (process,) = facts.processes
    assert process.root == f"/proc/{process.pid}/root"
    (security,) = results("qemu.security-driver", facts)
    assert "nothing confines QEMU, which runs as root" in security.found
    (clients,) = results("libvirt.max-clients", facts)
    assert (clients.level, "max_clients = 20 in" in clients.found) == (Level.GOOD, True)
    (limits,) = results("limits.daemon", facts)
    assert f"libvirtd {process.pid}" in limits.found


def test_an_ordinary_user_is_told_that_it_cannot_be_seen(daemon: Path) -> None:
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:  # nothing of the tests' own process may be changed
        try:
            os.setgroups([])
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)
            facts = of_daemon(read_facts(Path("/")), daemon)
            found = [one.found for check in ("libvirt.max-clients", "qemu.max-files") for one in results(check, facts)]
            os.write(write_end, "\n".join(found).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        said = pipe.read().splitlines()
    os.waitpid(child, 0)
    assert len(said) == 2
    assert all("permission denied; needs root" in line for line in said)


def test_a_server_whose_files_are_mounted_for_it_alone(tmp_path: Path) -> None:
    """As in a container: the same path is another file, or none, for everybody else."""
    program = shutil.which("dnsmasq", path="/usr/sbin:/usr/bin")
    assert program is not None, "dnsmasq is missing: scripts/install"
    (tmp_path / "inside").mkdir()
    (tmp_path / "seen").mkdir()
    text = f"port=0\nuser=root\ndhcp-range=10.99.0.10,10.99.0.20\ndhcp-lease-max=5\ndhcp-leasefile={tmp_path}/leases\n"
    (tmp_path / "inside" / "conf").write_text(text)
    script = 'mount --bind "$1/inside" "$1/seen" && exec "$2" -k --conf-file="$1/seen/conf" --pid-file='
    process = subprocess.Popen(
        ["/usr/bin/unshare", "--net", "--mount", "sh", "-c", script, "sh", str(tmp_path), program],
        stdin=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + _START_S
        while Path(f"/proc/{process.pid}/comm").read_text() != "dnsmasq\n":
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        facts = only(read_facts(Path("/")), lambda one: one.pid == process.pid)
        (most,) = results("dnsmasq.lease-max", facts)
        assert (most.level, f"dnsmasq {process.pid}: 5 leases" in most.found) == (Level.PROBLEM, True)
    finally:
        process.kill()
        process.wait(300)
