"""Kernel switches of one interface, through /proc/sys, in the network namespace of the calling thread."""

from collections.abc import Mapping
from pathlib import Path

from muster.base.errors import Unsupported

_ROOT = Path("/proc/sys/net")

# A bridge's own IPv4: answers ARP only for its own addresses, asks with them, takes guests of networks that overlap
# (loose reverse path), and forwards nothing.
BRIDGE_IPV4 = {"arp_ignore": "1", "arp_announce": "2", "rp_filter": "2", "accept_redirects": "0", "send_redirects": "0"}
# A bridge's own IPv6, where a network has a version 6 subnet: takes nothing from guests' advertisements.
BRIDGE_IPV6 = {"disable_ipv6": "0", "accept_ra": "0", "autoconf": "0", "accept_redirects": "0", "accept_dad": "0"}


def write(family: str, interface: str, values: Mapping[str, str]) -> None:
    """Set switches of `interface` (`family`: ipv4, ipv6). Those that the kernel lacks are left: one without IPv6 has
    none of its. Raises Unsupported."""
    folder = _ROOT / family / "conf" / interface
    for name, value in values.items():
        try:
            (folder / name).write_text(value, encoding="ascii")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Unsupported(f"{folder / name} cannot be set ({error}); /proc/sys must be writable") from error
