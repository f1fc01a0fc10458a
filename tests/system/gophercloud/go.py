"""Go programs over Debian's packages of gophercloud."""

import os
import subprocess
from pathlib import Path

import pytest

SOURCES = Path("/usr/share/gocode")
ACCEPTANCE = "github.com/gophercloud/gophercloud/acceptance/openstack"
CACHE = Path(__file__).parents[3] / "var/gophercloud/go-build"  # what was compiled once


def go(
    command: list[str], environment: dict[str, str], folder: Path, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Run `go` or a program built by it, with no more of this process's environment than it needs. Blocks."""
    if not (SOURCES / "src" / ACCEPTANCE).exists():
        pytest.fail("there is no gophercloud: run scripts/gophercloud-packages")
    settings = {"GOPATH": str(SOURCES), "GO111MODULE": "off", "GOCACHE": str(CACHE)}
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "GOMAXPROCS") if name in os.environ}
    return subprocess.run(
        command,
        cwd=folder,
        env={"LC_ALL": "C.UTF-8", **inherited, **settings, **environment},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
