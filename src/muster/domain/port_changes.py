"""What an update of a port sets, who may set it, and which addresses it adds and removes. Pure."""

from collections.abc import Collection, Sequence
from ipaddress import ip_address

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from muster.base.errors import MusterError
from muster.domain.context import Context
from muster.domain.network_errors import disallowed, network_error
from muster.domain.port_batch import NetworkPicture
from muster.domain.ports import NewPort, Port, WantedIp
from muster.domain.specs import AddressPair, FixedIp

_NETWORK_OWNER_PREFIX = "network:"


class PortChanges(Struct, frozen=True, kw_only=True):
    """What an update sets."""

    name: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    mac_address: str | UnsetType = UNSET
    fixed_ips: tuple[WantedIp, ...] | UnsetType = UNSET
    security_group_ids: tuple[str, ...] | UnsetType = UNSET
    port_security_enabled: bool | UnsetType = UNSET
    allowed_address_pairs: tuple[AddressPair, ...] | UnsetType = UNSET
    extra_dhcp_opts: tuple[dict[str, str], ...] | UnsetType = UNSET
    admin_state_up: bool | UnsetType = UNSET
    device_id: str | UnsetType = UNSET
    device_owner: str | UnsetType = UNSET
    binding_host_id: str | UnsetType = UNSET
    binding_vnic_type: str | UnsetType = UNSET
    binding_profile: dict[str, object] | UnsetType = UNSET
    dns_name: str | UnsetType = UNSET


# What the hosts of a server must hear of.
SEEN_BY_HOSTS = frozenset(
    {
        "mac_address",
        "fixed_ips",
        "security_group_ids",
        "port_security_enabled",
        "allowed_address_pairs",
        "extra_dhcp_opts",
        "admin_state_up",
    }
)


def create_refusal(draft: NewPort, network: NetworkPicture, context: Context) -> MusterError | None:
    """Why the caller may not make this port on this network, if it may not.

    On a network of its own a project may set everything; on a shared one not what would let it pass for another.
    """
    if not (network.shared or context.sees(network.project_id)):
        return network_error("NetworkNotFound", net_id=network.id)
    if not context.sees(network.project_id):
        for name in _reserved_for_owner(draft):
            return disallowed(f"create_port:{name}")
    return _security_refusal(draft, network)


def _reserved_for_owner(draft: NewPort) -> list[str]:
    named = {
        "mac_address": draft.mac_address is not None,
        "fixed_ips:ip_address": any(wanted.ip_address for wanted in draft.fixed_ips or ()),
        "port_security_enabled": draft.port_security_enabled is not None,
        "allowed_address_pairs": bool(draft.allowed_address_pairs),
        "device_owner": draft.device_owner.startswith(_NETWORK_OWNER_PREFIX),
    }
    return [name for name, is_set in named.items() if is_set]


def _security_refusal(draft: NewPort, network: NetworkPicture) -> MusterError | None:
    guarded = draft.port_security_enabled
    if guarded is None:
        guarded = network.port_security_enabled
    if guarded:
        return None
    if draft.security_group_ids:
        return network_error("PortSecurityAndIPRequiredForSecurityGroups")
    if draft.allowed_address_pairs:
        return network_error("AddressPairAndPortSecurityRequired")
    return None


def check_update(port: Port, changes: PortChanges, network: NetworkPicture, context: Context) -> None:
    """Raises Forbidden or Conflict if the caller may not change the port so."""
    if not context.sees(port.project_id):
        raise disallowed("update_port")
    if changes.mac_address is not UNSET and changes.mac_address != port.mac_address:
        if not context.is_admin:
            raise disallowed("update_port:mac_address")
        if port.binding_host_id:
            raise network_error(
                "PortBound",
                port_id=port.id,
                vif_type="bridge",
                old_mac=port.mac_address,
                new_mac=changes.mac_address,
            )
    if not context.sees(network.project_id):
        _check_shared_update(port, changes)
    _check_security(port, changes)


def _check_shared_update(port: Port, changes: PortChanges) -> None:
    wanted = () if isinstance(changes.fixed_ips, UnsetType) else changes.fixed_ips
    have = {one.ip_address for one in port.fixed_ips}
    if any(one.ip_address is not None and one.ip_address not in have for one in wanted):
        raise disallowed("update_port:fixed_ips:ip_address")
    if changes.port_security_enabled not in {UNSET, port.port_security_enabled}:
        raise disallowed("update_port:port_security_enabled")
    if changes.allowed_address_pairs not in {UNSET, port.allowed_address_pairs}:
        raise disallowed("update_port:allowed_address_pairs")
    owner = changes.device_owner
    if not isinstance(owner, UnsetType) and owner != port.device_owner and owner.startswith(_NETWORK_OWNER_PREFIX):
        raise disallowed("update_port:device_owner")


def _check_security(port: Port, changes: PortChanges) -> None:
    guarded = _or(changes.port_security_enabled, port.port_security_enabled)
    if guarded:
        return
    if _or(changes.security_group_ids, port.security_group_ids):
        if changes.security_group_ids is UNSET:
            raise network_error("PortSecurityPortHasSecurityGroup")
        raise network_error("PortSecurityAndIPRequiredForSecurityGroups")
    if _or(changes.allowed_address_pairs, port.allowed_address_pairs):
        raise network_error("AddressPairAndPortSecurityRequired")


def _or(changed: object, present: object) -> object:
    return present if changed is UNSET else changed


def address_changes(
    port: Port, wanted: Sequence[WantedIp]
) -> tuple[tuple[FixedIp, ...], tuple[FixedIp, ...], tuple[WantedIp, ...]]:
    """(kept, removed, added) so that the port has what is wanted and keeps of its addresses what it can."""
    left = list(port.fixed_ips)
    kept: list[FixedIp] = []
    open_wants: list[WantedIp] = []
    for one in sorted(wanted, key=lambda want: want.ip_address is None):  # addresses by name first
        match = next((fixed for fixed in left if _answers(fixed, one)), None)
        if match is None:
            open_wants.append(one)
        else:
            left.remove(match)
            kept.append(match)
    return tuple(kept), tuple(left), tuple(open_wants)


def _answers(fixed: FixedIp, wanted: WantedIp) -> bool:
    if wanted.subnet_id is not None and wanted.subnet_id != fixed.subnet_id:
        return False
    return wanted.ip_address is None or ip_address(wanted.ip_address) == ip_address(fixed.ip_address)


def with_mac(pairs: Collection[AddressPair], mac_address: str) -> tuple[AddressPair, ...]:
    """Allowed address pairs in which those without a MAC address have the port's."""
    return tuple(replace(pair, mac_address=pair.mac_address or mac_address) for pair in pairs)


def merged_options(present: Sequence[dict[str, str]], wanted: Sequence[dict[str, str]]) -> tuple[dict[str, str], ...]:
    """A port's extra DHCP options after an update: each named one is set, or removed if it comes without a value."""
    merged = {(option["opt_name"], option["ip_version"]): option for option in present}
    for option in wanted:
        key = (option["opt_name"], option["ip_version"])
        if "opt_value" in option:
            merged[key] = option
        else:
            merged.pop(key, None)
    return tuple(merged.values())
