"""What a new server's request names (networks, ports, groups, a key, a zone), and what is found of it. Pure."""

import base64
from collections.abc import Mapping, Sequence

from msgspec import Struct

from muster.base.errors import Conflict, Forbidden, Invalid, MusterError, NotFound
from muster.domain.context import Context
from muster.domain.quotas import (
    INJECTED_FILE_BYTES,
    INJECTED_FILES,
    INJECTED_PATH_BYTES,
    METADATA_ITEMS,
    Key,
    limit_of_user,
)
from muster.domain.specs import InjectedFile

DEFAULT_GROUP = "default"


class NetworkSeen(Struct, frozen=True, kw_only=True):
    """A network as far as a server's request needs it."""

    id: str
    project_id: str
    shared: bool
    router_external: bool
    port_security_enabled: bool
    has_subnets: bool


class PortSeen(Struct, frozen=True, kw_only=True):
    """A port as far as a server's request needs it."""

    id: str
    project_id: str
    network_id: str
    device_id: str
    has_address: bool


class NicAsked(Struct, frozen=True, kw_only=True):
    """An interface as a request names it."""

    network_id: str | None = None
    port_id: str | None = None
    fixed_ip: str | None = None
    tag: str | None = None


class Named(Struct, frozen=True, kw_only=True):
    """All that a request names. `any_network` asks for the only network that the project may use."""

    context: Context
    nics: tuple[NicAsked, ...] = ()
    any_network: bool = False
    groups: tuple[str, ...] = ()
    key_name: str | None = None
    zone: str | None = None
    hostname: str | None = None
    metadata_items: int = 0
    files: tuple[InjectedFile, ...] = ()

    @property
    def is_limited(self) -> bool:
        """Whether it holds what quotas limit per request."""
        return bool(self.metadata_items or self.files)


class Picture(Struct, frozen=True, kw_only=True):
    """What a batch of requests names, as far as it exists.

    `holders` maps (network, address) to the device that has it, `groups` a project to (id, name) of its groups,
    `keys` (user, name) to public keys.
    """

    networks: Mapping[str, NetworkSeen] = {}
    usable: Sequence[NetworkSeen] = ()
    ports: Mapping[str, PortSeen] = {}
    holders: Mapping[tuple[str, str], str] = {}
    groups: Mapping[str, Sequence[tuple[str, str]]] = {}
    keys: Mapping[tuple[str, str], str] = {}
    zones: frozenset[str] = frozenset()
    hostnames: frozenset[str] = frozenset()
    limits: Mapping[Key, int] = {}


class Resolved(Struct, frozen=True, kw_only=True):
    """What a request comes to. `group_ids` None takes the project's default group."""

    nics: tuple[NicAsked, ...]
    group_ids: tuple[str, ...] | None
    public_key: str | None


def resolve(named: Named, picture: Picture) -> Resolved:
    """The request with everything found. Raises Invalid, Conflict, Forbidden as Nova answers what is named wrongly."""
    _check_metadata(named, picture)
    _check_files(named, picture)
    _check_place(named, picture)
    public_key = None
    if named.key_name is not None:
        public_key = picture.keys.get((named.context.user_id, named.key_name))
        if public_key is None:
            raise Invalid("Invalid key_name provided.")
    nics = _only_network(named, picture) if named.any_network else named.nics
    for nic in nics:
        error = port_refusal(nic.port_id, named.context, picture) or network_refusal(nic, named.context, picture)
        if error is not None:
            raise error
    group_ids = _group_ids(named, picture)
    if group_ids:
        _check_guarded(nics, picture)
    return Resolved(nics=nics, group_ids=group_ids, public_key=public_key)


def network_refusal(nic: NicAsked, context: Context, picture: Picture) -> MusterError | None:
    """Why a new port cannot be made on the network that `nic` names."""
    if nic.port_id is not None or nic.network_id is None:
        return None
    network = picture.networks.get(nic.network_id)
    if network is None or not (network.shared or network.router_external or context.sees(network.project_id)):
        return Invalid(f"Network {nic.network_id} could not be found.", code="compute.network")
    if network.router_external and not network.shared and not context.is_admin:
        return Forbidden(f"It is not allowed to create an interface on external network {network.id}")
    if not network.has_subnets:
        return Invalid(f"Network {network.id} requires a subnet in order to boot instances on.")
    holder = picture.holders.get((network.id, nic.fixed_ip)) if nic.fixed_ip else None
    if holder is not None:
        return Invalid(
            f"Fixed IP address {nic.fixed_ip} is already in use on instance {holder}.", code="compute.fixed_ip_in_use"
        )
    return None


def port_refusal(port_id: str | None, context: Context, picture: Picture) -> MusterError | None:
    """Why the existing port `port_id` cannot become a server's interface."""
    if port_id is None:
        return None
    port = picture.ports.get(port_id)
    network = picture.networks.get(port.network_id) if port is not None else None
    if port is None or not (context.sees(port.project_id) or (network and context.sees(network.project_id))):
        return Invalid(f"Port id {port_id} could not be found.", code="compute.port")
    if port.device_id:
        return Conflict(f"Port {port_id} is still in use.", code="compute.port_in_use")
    if port.project_id != context.project_id:
        return Invalid(f"Port {port_id} not usable for instance: it belongs to another project.")
    if not port.has_address:
        return Invalid(f"Port {port_id} requires a FixedIP in order to be used.", code="compute.port_address")
    return None


def find_group(name: str, project_id: str, picture: Picture) -> str:
    """The id of a project's security group by id or name. Raises NotFound, Conflict for several of one name."""
    mine = picture.groups.get(project_id, ())
    if any(group_id == name for group_id, _ in mine):
        return name
    matches = [group_id for group_id, group_name in mine if group_name == name]
    if len(matches) > 1:
        raise Conflict(f"Multiple security groups found matching '{name}'. Use an ID to be more specific.")
    if not matches:
        raise NotFound(f"Security group {name} not found for project {project_id}.")
    return matches[0]


def _group_ids(named: Named, picture: Picture) -> tuple[str, ...] | None:
    if set(named.groups) <= {DEFAULT_GROUP}:
        return None
    try:
        found = [find_group(name, named.context.project_id or "", picture) for name in named.groups]
    except NotFound as error:
        raise Invalid(error.message) from error
    return tuple(dict.fromkeys(found))


def _only_network(named: Named, picture: Picture) -> tuple[NicAsked, ...]:
    usable = [one for one in picture.usable if one.shared or one.project_id == named.context.project_id]
    if len(usable) > 1:
        raise Conflict("Multiple possible networks found, use a Network ID to be more specific.")
    return tuple(NicAsked(network_id=network.id) for network in usable)


def _check_guarded(nics: Sequence[NicAsked], picture: Picture) -> None:
    if any(nic.network_id and not picture.networks[nic.network_id].port_security_enabled for nic in nics):
        raise Invalid("Network requires port_security_enabled and subnet associated in order to apply security groups.")


def _check_place(named: Named, picture: Picture) -> None:
    if named.zone is not None and named.hostname is None and named.zone not in picture.zones:
        raise Invalid("The requested availability zone is not available")
    if named.hostname is not None and named.hostname not in picture.hostnames:
        raise Invalid(f"Compute host {named.hostname} could not be found.")


def _check_metadata(named: Named, picture: Picture) -> None:
    limit = _limit(named, picture, METADATA_ITEMS)
    if named.metadata_items > limit >= 0:
        raise Forbidden(f"Maximum number of metadata items exceeds {limit}", code="compute.quota")


def _check_files(named: Named, picture: Picture) -> None:
    sizes = [len(base64.b64decode(file.contents)) for file in named.files]
    for what, resource, number in (
        ("Personality file limit", INJECTED_FILES, len(sizes)),
        ("Maximum length of a personality file's content", INJECTED_FILE_BYTES, max(sizes, default=0)),
        (
            "Maximum length of a personality file's path",
            INJECTED_PATH_BYTES,
            max((len(file.path.encode()) for file in named.files), default=0),
        ),
    ):
        limit = _limit(named, picture, resource)
        if number > limit >= 0:
            raise Forbidden(f"{what} exceeded: {number} of {limit}", code="compute.quota")


def _limit(named: Named, picture: Picture, resource: str) -> int:
    return limit_of_user(picture.limits, named.context.project_id or "", named.context.user_id, resource)
