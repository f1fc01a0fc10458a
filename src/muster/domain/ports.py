"""Ports: a network's interfaces, with their addresses."""

from msgspec import Struct

from muster.domain.specs import AddressPair, FixedIp

DHCP_OWNER = "network:dhcp"


class WantedIp(Struct, frozen=True, kw_only=True):
    """An address that a request asks for: a given one, any of a subnet, or (both None) any of the network."""

    subnet_id: str | None = None
    ip_address: str | None = None


class NewPort(Struct, frozen=True, kw_only=True):
    """A port to be made, already parsed. None means: as the network's or the project's default has it.

    `fixed_ips`: None takes one address per IP version (as Neutron does: one IPv4 subnet, one stateful IPv6 subnet,
    and every SLAAC subnet); an empty tuple takes none. `security_group_ids` None takes the project's default group.
    """

    id: str
    project_id: str
    network_id: str
    name: str = ""
    description: str = ""
    mac_address: str | None = None
    fixed_ips: tuple[WantedIp, ...] | None = None
    security_group_ids: tuple[str, ...] | None = None
    port_security_enabled: bool | None = None
    allowed_address_pairs: tuple[AddressPair, ...] = ()
    extra_dhcp_opts: tuple[dict[str, str], ...] = ()
    admin_state_up: bool = True
    device_id: str = ""
    device_position: int = 0
    device_owner: str = ""
    binding_host_id: str = ""
    binding_vnic_type: str = "normal"
    binding_profile: dict[str, object] = {}
    dns_name: str = ""
    tags: tuple[str, ...] = ()


class Port(Struct, frozen=True, kw_only=True):
    """A port as it is."""

    id: str
    project_id: str
    network_id: str
    name: str
    description: str
    mac_address: str
    admin_state_up: bool
    status: str
    device_id: str
    device_owner: str
    device_position: int = 0
    port_security_enabled: bool
    allowed_address_pairs: tuple[AddressPair, ...]
    extra_dhcp_opts: tuple[dict[str, str], ...]
    binding_host_id: str
    binding_vnic_type: str
    binding_profile: dict[str, object]
    dns_name: str
    revision: int
    created_at: float
    updated_at: float
    fixed_ips: tuple[FixedIp, ...] = ()
    security_group_ids: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
