"""`muster doctor` beside real DHCP servers: which are bound to their interface, how many leases they give."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from muster.doctor.diagnosis import diagnose
from muster.doctor.findings import Finding, Level, Plan
from muster.doctor.reader import read_facts

pytestmark = [pytest.mark.system, pytest.mark.root]

_GUESTS = 5_000
_START_S = 300.0
_INTERFACES = """
for name in one two; do ip link add $name type bridge; ip link set $name up; done
ip addr add 10.99.0.1/16 dev one
ip addr add 10.98.0.1/16 dev two
exec "$@"
"""


@contextmanager
def dnsmasq(folder: Path, *options: str) -> Iterator[int]:
    """A real one in a network namespace that ends with it."""
    program = shutil.which("dnsmasq", path="/usr/sbin:/usr/bin")
    assert program is not None, "dnsmasq is missing: scripts/install"
    fixed = ["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file="]
    leases = [f"--dhcp-leasefile={folder / 'leases'}", "--dhcp-range=10.99.0.10,10.99.99.20"]
    command = ["/usr/bin/unshare", "--net", "sh", "-c", _INTERFACES, "sh", program, *fixed, *leases, *options]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        wait_for(process)
        yield process.pid
    finally:
        process.kill()
        process.wait(300)


def wait_for(process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + _START_S
    while Path(f"/proc/{process.pid}/comm").read_text() != "dnsmasq\n":
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)


def said_of(pid: int, check: str) -> list[Finding]:
    """What a check says of this process: others may run beside it."""
    findings = diagnose(read_facts(Path("/")), Plan(guests=_GUESTS))
    return [one for one in findings if one.check == check and str(pid) in one.found and one.level is not Level.GOOD]


def sockets(pid: int) -> str:
    """The DHCP sockets in its namespace, once there are any: `0.0.0.0%one:67` is bound to a device."""
    until = time.monotonic() + _START_S
    command = ["nsenter", "--net", f"--target={pid}", "ss", "--listening", "--udp", "--numeric", "--no-header"]
    while ":67" not in (said := subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout):
        assert time.monotonic() < until
        time.sleep(0.05)
    return "\n".join(line for line in said.splitlines() if ":67 " in line)


def test_a_server_that_is_not_bound_is_found(tmp_path: Path) -> None:
    with dnsmasq(tmp_path) as pid:
        assert said_of(pid, "dnsmasq.bound")
        assert said_of(pid, "dnsmasq.lease-file")
        (most,) = said_of(pid, "dnsmasq.lease-max")
        assert f"{pid}: 1000" in most.found


def test_a_server_that_is_bound_is_not(tmp_path: Path) -> None:
    with dnsmasq(tmp_path, "--bind-dynamic", "-i", "one", "--leasefile-ro", "--dhcp-lease-max=65535") as pid:
        for check in ("dnsmasq.bound", "dnsmasq.lease-file", "dnsmasq.lease-max"):
            assert not said_of(pid, check)
        assert "%one:67" in sockets(pid)


@pytest.mark.parametrize("options", [["-i", "one", "-i", "two"], ["-i", "*"], ["-i", "one,two"], ["-i", "lo"], []])
def test_with_any_number_of_interfaces_but_one_it_binds_to_none(tmp_path: Path, options: list[str]) -> None:
    with dnsmasq(tmp_path, "--bind-dynamic", *options) as pid:
        assert said_of(pid, "dnsmasq.bound")
        assert "%" not in sockets(pid)


def test_a_server_with_a_script_is_one_though_it_is_two_processes(tmp_path: Path) -> None:
    with dnsmasq(tmp_path, "--dhcp-script=/bin/true") as pid:
        until = time.monotonic() + _START_S
        while not (family := Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert [Path(f"/proc/{child}/comm").read_text() for child in family] == ["dnsmasq\n"]
        (found,) = said_of(pid, "dnsmasq.lease-script")
        assert family[0] not in found.found
