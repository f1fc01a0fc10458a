"""What real guests need of this machine, found out before anything starts."""

import ctypes
import importlib
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import cast

from muster.base.errors import Unsupported
from muster.cli.hosts import RealHost, RealHostChoices
from muster.guest import tools
from muster.host.hypervisor.libvirt.libvirtd import missing_packages
from muster.host.network.nft import LIBRARY

#: Numbers of the capabilities in linux/capability.h.
_CAPABILITIES = {"CAP_NET_BIND_SERVICE": 10, "CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_SYS_ADMIN": 21}
_TUN = Path("/dev/net/tun")


def real_host_opener() -> Callable[[Path, RealHostChoices], AbstractContextManager[RealHost]]:
    """What opens this machine as the host of the cloud in a folder. Raises Unsupported: see `require_real_guests`."""
    require_real_guests()
    try:
        module = importlib.import_module("muster.cli.real_host")
    except ImportError as error:
        raise Unsupported(
            f"Real guests need Python packages that are not installed here ({error}); run: "
            "apt-get install --no-install-recommends libvirt-dev pkg-config gcc && pip install libvirt-python pycdlib"
        ) from error
    return cast(Callable[[Path, RealHostChoices], AbstractContextManager[RealHost]], module.opened_host)


def require_real_guests() -> None:
    """Raises Unsupported, which says what is to be done, when this machine or this user cannot have real guests."""
    if os.geteuid() != 0:
        raise Unsupported("Real guests need root: run it as root, or leave out --libvirt to have simulated hosts only.")
    if lacking := _lacking_capabilities():
        raise Unsupported(
            f"Real guests need {', '.join(lacking)}, which root does not have here; give them to this container "
            "(docker run --privileged), or leave out --libvirt."
        )
    if packages := _missing_packages():
        raise Unsupported(
            f"Real guests need what is not installed here; run: "
            f"apt-get install --no-install-recommends {' '.join(sorted(packages))}"
        )
    if not _TUN.exists():
        raise Unsupported(f"Real guests need {_TUN}; run: modprobe tun")


def _missing_packages() -> set[str]:
    packages = missing_packages()
    packages |= {package for program, package in tools.NEEDED.items() if tools.find(program) is None}
    if shutil.which("dnsmasq") is None:
        packages.add("dnsmasq-base")
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        packages.add("libnftables1")
    return packages


def _lacking_capabilities() -> list[str]:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    effective = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    return [name for name, number in _CAPABILITIES.items() if not effective >> number & 1]


if __name__ == "__main__":
    try:
        real_host_opener()
    except Unsupported as unmet:
        sys.exit(unmet.message)
