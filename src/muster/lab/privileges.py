"""A lab needs root: network namespaces, and engines that run as users of their own."""

import os

from muster.base.errors import Unsupported
from muster.lab.engines.programs import program

_NEEDED = {"ip": "iproute2", "tc": "iproute2", "setpriv": "util-linux", "setsid": "util-linux", "mount": "mount"}
_NEEDED |= {"etcd": "etcd-server", "etcdctl": "etcd-client", "rabbitmq-server": "rabbitmq-server"}


def require_root() -> None:
    """Raises Unsupported, which says what to do, without root or one of the programs."""
    if os.geteuid() != 0:
        raise Unsupported("a lab makes network namespaces, which needs root: run the same command with sudo")
    for name, package in _NEEDED.items():
        program(name, package)
