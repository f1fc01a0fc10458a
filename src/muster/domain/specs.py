"""What a host should have: the values that travel from the control plane to a host.

Each spec carries a `generation` that only grows, so that a message which is late, doubled or out of order changes
nothing: a host keeps the highest generation that it has seen.
"""

from enum import StrEnum

from msgspec import Struct

DHCPV6_STATEFUL = "dhcpv6-stateful"


class Power(StrEnum):
    """What a server should be doing on its host."""

    RUNNING = "running"
    STOPPED = "stopped"
    ABSENT = "absent"


class HostRoute(Struct, frozen=True):
    """A route that DHCP hands to guests (option 121)."""

    destination: str
    nexthop: str


class SubnetSpec(Struct, frozen=True, kw_only=True):
    """A subnet as far as a host needs it. `dhcp_address` is the address of the network's DHCP port in it."""

    id: str
    ip_version: int
    cidr: str
    gateway_ip: str | None = None
    dns_nameservers: tuple[str, ...] = ()
    host_routes: tuple[HostRoute, ...] = ()
    dhcp_enabled: bool = True
    dhcp_address: str | None = None
    ipv6_address_mode: str | None = None
    ipv6_ra_mode: str | None = None

    @property
    def gives_leases(self) -> bool:
        """Whether its DHCP server gives its addresses out, and does not only announce them."""
        is_stateful = self.ip_version == 4 or (self.ipv6_ra_mode or self.ipv6_address_mode) == DHCPV6_STATEFUL
        return self.dhcp_enabled and self.dhcp_address is not None and is_stateful


class NetworkSpec(Struct, frozen=True, kw_only=True):
    """A network: one bridge on each host that has a port of it. `segment_id` is its VXLAN identifier.

    `members` are the addresses of those hosts at which their tunnels end. Like a security group's members they have a
    generation of their own; where that is -1, they are not told.
    """

    id: str
    generation: int
    segment_id: int
    mtu: int = 1450
    dns_domain: str = ""
    subnets: tuple[SubnetSpec, ...] = ()
    member_generation: int = -1
    members: tuple[str, ...] = ()


class FixedIp(Struct, frozen=True):
    """One address of a port."""

    subnet_id: str
    ip_address: str


class AddressPair(Struct, frozen=True):
    """A further address (or CIDR) that a port may send from."""

    ip_address: str
    mac_address: str


class DhcpOption(Struct, frozen=True):
    """What a port's guest is told by DHCP besides. `name` is dnsmasq's, or a number; the value as users give it."""

    name: str
    value: str
    ip_version: int = 4


class PortSpec(Struct, frozen=True, kw_only=True):
    """A server's interface."""

    id: str
    network_id: str
    mac_address: str
    fixed_ips: tuple[FixedIp, ...] = ()
    security_group_ids: tuple[str, ...] = ()
    port_security_enabled: bool = True
    allowed_address_pairs: tuple[AddressPair, ...] = ()
    dhcp_options: tuple[DhcpOption, ...] = ()
    admin_state_up: bool = True


class RuleSpec(Struct, frozen=True, kw_only=True):
    """A security group's rule. `protocol` is a name (`tcp`), a number as text or None for any; for ICMP
    `port_min` is the type and `port_max` the code. At most one of the two remotes is set."""

    id: str
    direction: str
    ethertype: str
    protocol: str | None = None
    port_min: int | None = None
    port_max: int | None = None
    remote_ip_prefix: str | None = None
    remote_group_id: str | None = None


class SecurityGroupSpec(Struct, frozen=True, kw_only=True):
    """A security group: its rules, and the addresses of its members wherever they are.

    `members` is filled for groups that a rule on the host names as its remote group; it holds an address once for each
    member that has it, and has a generation of its own. Where that is -1, members are not told; where `generation` is,
    rules are not: a group may be sent for its members only.
    """

    id: str
    generation: int
    member_generation: int = -1
    stateful: bool = True
    rules: tuple[RuleSpec, ...] = ()
    members: tuple[str, ...] = ()


class GroupMembers(Struct, frozen=True, kw_only=True):
    """How the members of a group or network changed in the step to `generation`: for who has the list before it."""

    id: str
    generation: int
    joined: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


class ImageSpec(Struct, frozen=True, kw_only=True):
    """An image's file: fetched once per host, verified against `sha512`."""

    id: str
    disk_format: str
    size_bytes: int
    sha512: str
    min_disk_gib: int = 0


class KeySpec(Struct, frozen=True):
    """A user's key as the metadata service shows it: for ssh, or a certificate in PEM."""

    name: str
    public_key: str

    @property
    def type(self) -> str:
        """Nova's name of the kind of key."""
        return "x509" if self.public_key.startswith("-----BEGIN") else "ssh"


class InjectedFile(Struct, frozen=True):
    """A file that a user wants in the guest at `path`; `contents` are base64. The config drive brings it."""

    path: str
    contents: str


class ServerSpec(Struct, frozen=True, kw_only=True):
    """A server as its host should have it.

    `boot_nonce` grows with each requested reboot (`boot_hard` says which kind the newest is), `disk_nonce` with each
    rebuild: a host that sees a server with a lower nonce than asked for restarts it, or makes its disk anew.
    """

    id: str
    generation: int
    project_id: str
    user_id: str
    name: str
    hostname: str
    power: Power
    boot_nonce: int = 0
    boot_hard: bool = False
    disk_nonce: int = 0
    vcpus: int = 1
    ram_mib: int = 128
    disk_gib: int = 0
    flavor_name: str = ""
    image: ImageSpec | None = None
    ports: tuple[PortSpec, ...] = ()
    key: KeySpec | None = None
    user_data: str | None = None  # base64, as the user sent it
    metadata: dict[str, str] = {}
    injected_files: tuple[InjectedFile, ...] = ()
    config_drive: bool = False
    availability_zone: str = "nova"
    created_at_s: float = 0.0
