"""Networks: their values, and which segments and MTUs they may have."""

from uuid import NAMESPACE_OID, uuid5

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import asdict

from muster.domain.context import Context
from muster.domain.network_errors import invalid_input

VXLAN = "vxlan"
FLAT = "flat"
MAX_VNI = 2**24 - 1  # RFC 7348, section 5
MIN_MTU = 68  # RFC 791


class NetworkSettings(Struct, frozen=True, kw_only=True):
    """What an operator may set. `physical_networks` are the names that a flat network may refer to."""

    default_mtu: int = 1450
    max_mtu: int = 1450
    physical_networks: tuple[str, ...] = ()
    dns_domain: str = "openstacklocal."


class Network(Struct, frozen=True, kw_only=True):
    """A network as it is."""

    id: str
    project_id: str
    name: str
    description: str
    admin_state_up: bool
    shared: bool
    router_external: bool
    is_default: bool
    port_security_enabled: bool
    mtu: int
    network_type: str
    physical_network: str | None
    segment_id: int | None
    dns_domain: str
    availability_zone_hints: tuple[str, ...]
    revision: int
    created_at: float
    updated_at: float
    subnet_ids: tuple[str, ...] = ()
    availability_zones: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


class NewNetwork(Struct, frozen=True, kw_only=True):
    """A network to be made, already parsed. `mtu` 0 is the default; `segment_id` None is any free one."""

    id: str
    project_id: str
    name: str = ""
    description: str = ""
    admin_state_up: bool = True
    shared: bool = False
    router_external: bool = False
    is_default: bool = False
    port_security_enabled: bool = True
    mtu: int = 0
    network_type: str | None = None
    physical_network: str | None = None
    segment_id: int | None = None
    dns_domain: str = ""
    availability_zone_hints: tuple[str, ...] = ()


class NetworkChanges(Struct, frozen=True, kw_only=True):
    """What an update sets."""

    name: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    admin_state_up: bool | UnsetType = UNSET
    shared: bool | UnsetType = UNSET
    router_external: bool | UnsetType = UNSET
    is_default: bool | UnsetType = UNSET
    port_security_enabled: bool | UnsetType = UNSET
    mtu: int | UnsetType = UNSET
    dns_domain: str | UnsetType = UNSET


def changed_fields(changes: Struct) -> dict[str, object]:
    """The fields that a `...Changes` value sets."""
    return {name: value for name, value in asdict(changes).items() if value is not UNSET}


def visible(network: Network, context: Context) -> bool:
    """Whether the caller may see the network: its own, shared ones and external ones."""
    return network.shared or network.router_external or context.sees(network.project_id)


def effective_mtu(wanted: int, settings: NetworkSettings) -> int:
    """The MTU of a network that asks for `wanted` bytes. Raises Invalid beyond what the underlay carries."""
    if wanted == 0:
        return settings.default_mtu
    if wanted > settings.max_mtu:
        raise invalid_input(f"Requested MTU is too big, maximum is {settings.max_mtu}")
    return wanted


def checked_type(draft: NewNetwork, settings: NetworkSettings) -> str:
    """The network's type. Raises Invalid for types and names that this cloud does not offer."""
    kind = draft.network_type
    if kind is None:
        if draft.physical_network is not None or draft.segment_id is not None:
            raise invalid_input("network_type required")
        return VXLAN
    if kind == VXLAN:
        if draft.physical_network is not None:
            raise invalid_input("provider:physical_network specified for VXLAN network")
        if draft.segment_id is not None and not 1 <= draft.segment_id <= MAX_VNI:
            raise invalid_input(f"provider:segmentation_id {draft.segment_id} is not between 1 and {MAX_VNI}")
        return VXLAN
    if kind == FLAT:
        if draft.segment_id is not None:
            raise invalid_input("segmentation_id specified for flat network")
        if draft.physical_network is None:
            raise invalid_input("physical_network required for flat provider network")
        if draft.physical_network not in settings.physical_networks:
            raise invalid_input(f"physical_network '{draft.physical_network}' unknown for flat provider network")
        return FLAT
    raise invalid_input(f"network_type value '{kind}' not supported")


def dhcp_device_id(network_id: str) -> str:
    """The `device_id` of a network's own DHCP port. A port is that one only if its owner is `ports.DHCP_OWNER` too:
    users may write any device's id into theirs."""
    return f"dhcp{uuid5(NAMESPACE_OID, network_id)}-{network_id}"
