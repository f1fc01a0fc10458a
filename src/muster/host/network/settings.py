"""What an operator may decide about a host's networking. Invariant: every default is the closed one."""

from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from muster.host.lease_time import LEASE_S


class Conntrack(StrEnum):
    """How bridged frames get their connection state: by the bridge family itself, or through br_netfilter."""

    AUTO = "auto"
    BRIDGE = "bridge"
    BR_NETFILTER = "br_netfilter"


class NetworkSettings(Struct, frozen=True, kw_only=True):
    """Settings of `LinuxPlumbing`.

    `state_dir` is made with mode 0700 and belongs to one agent; one agent per network namespace.
    `mtu_max` caps the networks' MTU (0: no cap). `open_tcp_ports` are host ports that guests may reach;
    `guests_may_route` lets the host forward between guests' bridges and other interfaces.
    Every `check_s` it is looked whether the DHCP servers live and the firewall's tables stand: one small file per
    network, and two questions to nftables.
    `tap_uid` owns the taps when the hypervisor does not run as root.
    `tunnel_address` is the host's own IPv4 address at which its VXLAN tunnels to other hosts end; None: it has none.
    """

    state_dir: Path
    mtu_max: int = 0
    tap_uid: int | None = None
    conntrack: Conntrack = Conntrack.AUTO
    open_tcp_ports: tuple[int, ...] = ()
    guests_may_route: bool = False
    lease_time_s: int = LEASE_S
    dnsmasq_path: str = "dnsmasq"
    dnsmasq_user: str = "root"
    dhcp_timeout_s: float = 10.0
    check_s: float = 10.0
    tunnel_address: str | None = None
