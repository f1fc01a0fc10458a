"""A subnet for each lab: a /24 of 198.18.0.0/15, which is kept for tests of networks and routed nowhere (RFC 2544)."""

import hashlib
import os
from collections.abc import Iterable
from ipaddress import IPv4Network, ip_network
from pathlib import Path

from muster.base.errors import Exhausted

_SUBNETS = list(IPv4Network("198.18.0.0/15").subnets(new_prefix=24))
_ID_DIGITS = 6


def lab_id(folder: Path) -> str:
    """What the names of a lab's namespaces and links have in common: drawn from its folder's path."""
    return hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:_ID_DIGITS]


def free_subnet(lab: str, taken: Iterable[str]) -> str:
    """The subnet of a lab, or the next that overlaps nothing of `taken` (addresses and networks, as `ip` writes them).

    Raises Exhausted when all are taken.
    """
    networks = [ip_network(one, strict=False) for one in taken if "/" in one or one[:1].isdigit()]
    routed = [network for network in networks if isinstance(network, IPv4Network) and network.prefixlen > 0]
    start = int(lab, 16) % len(_SUBNETS)
    for candidate in _SUBNETS[start:] + _SUBNETS[:start]:
        if not any(candidate.overlaps(network) for network in routed):
            return str(candidate)
    raise Exhausted(f"every subnet of 198.18.0.0/15 is in use on this machine ({len(_SUBNETS)} labs)")
