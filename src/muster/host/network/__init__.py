"""A real Linux host's networking: bridges and taps, nftables rules, DHCP servers.

What belongs here: everything that the `Plumbing` protocol of `host.ports` does on a Linux host. Values in, kernel
state out; nothing here knows the control plane.
"""

from muster.host.network.leases import LeaseSeen
from muster.host.network.plumbing import LinuxPlumbing, TornDown
from muster.host.network.settings import Conntrack, NetworkSettings

__all__ = ["Conntrack", "LeaseSeen", "LinuxPlumbing", "NetworkSettings", "TornDown"]
