"""`muster doctor` beside real DHCP servers: which are bound to their interface, how many leases they give."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from muster.doctor.diagnosis import diagnose
from muster.doctor.facts import read_facts
from muster.doctor.findings import Finding, Level, Plan

pytestmark = [pytest.mark.system, pytest.mark.root]

_GUESTS = 5_000
_START_S = 300.0


@contextmanager
def dnsmasq(folder: Path, *options: str) -> Iterator[int]:
    """A real one in a network namespace that ends with it."""
    program = shutil.which("dnsmasq", path="/usr/sbin:/usr/bin")
    assert program is not None, "dnsmasq is missing: scripts/install"
    fixed = ["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file="]
    leases = [f"--dhcp-leasefile={folder / 'leases'}", "--dhcp-range=10.99.0.10,10.99.0.20"]
    process = subprocess.Popen(
        ["/usr/bin/unshare", "--net", program, *fixed, *leases, *options], stdin=subprocess.DEVNULL
    )
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


def test_a_server_that_is_not_bound_is_found(tmp_path: Path) -> None:
    with dnsmasq(tmp_path) as pid:
        assert said_of(pid, "dnsmasq.bound")
        assert said_of(pid, "dnsmasq.lease-file")
        (most,) = said_of(pid, "dnsmasq.lease-max")
        assert f"{pid}: 1000" in most.found


def test_a_server_that_is_bound_is_not(tmp_path: Path) -> None:
    with dnsmasq(tmp_path, "--bind-dynamic", "-i", "lo", "--leasefile-ro", "--dhcp-lease-max=65535") as pid:
        for check in ("dnsmasq.bound", "dnsmasq.lease-file", "dnsmasq.lease-max"):
            assert not said_of(pid, check)
