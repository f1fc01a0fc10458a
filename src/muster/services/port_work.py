"""What is done to ports in one transaction: making, addressing, binding and removing them, in batches.

`services.port_batch` opens the transaction, with the locks that it needs, and hands out a `PortWork`. Nobody else makes
one: what is decided here holds only under what is held there.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from muster.base.clock import Clock
from muster.base.errors import Conflict, Exhausted, MusterError, NotFound
from muster.domain.addresses import REST_S, to_text
from muster.domain.group_members import member_of
from muster.domain.network_members import Binding
from muster.domain.port_batch import (
    NetworkPicture,
    check_visible,
    draw_macs,
    duplicate_addresses,
    wants_of,
)
from muster.domain.ports import NewPort, Port, WantedIp
from muster.domain.quotas import Ask
from muster.domain.specs import FixedIp
from muster.services.addresses import Asker, Granted, allocate
from muster.services.leases import Holding
from muster.services.outbox import Telling
from muster.services.tally import Tally
from muster.store import addresses as address_store
from muster.store import group_members as member_store
from muster.store import port_batch as store
from muster.store import server_ports as binding_store
from muster.store.engine import Connection
from muster.store.server_ports import WantedBinding


class DefaultGroups(Protocol):
    """Finds (or makes) the default security group of projects."""

    async def ensure_default(self, connection: Connection, project_ids: Collection[str]) -> Mapping[str, str]:
        """The id of each project's default group."""
        ...


class PortSettings(Struct, frozen=True, kw_only=True):
    """What an operator may set about ports. A released address rests `rest_s` seconds before it is given out again.

    Addresses are leased for `lease_s` seconds; 0 for never, None for whenever several processes may share the database.
    """

    mac_prefix: bytes = b"\xfa\x16"
    rest_s: float = REST_S
    lease_s: float | None = None


class Means(Struct, frozen=True, kw_only=True):
    """What all transactions of ports share."""

    clock: Clock
    rng: Random
    default_groups: DefaultGroups
    settings: PortSettings


class PortWork:
    """One transaction of ports. `connection` may be used for whatever else must be committed with them, `tally` for
    what else it takes of quotas, `telling` for what else hosts must hear of."""

    def __init__(
        self,
        means: Means,
        connection: Connection,
        networks: Mapping[str, NetworkPicture],
        *,
        tally: Tally,
        telling: Telling,
        holding: Holding | None = None,
    ) -> None:
        self._means = means
        self.connection = connection
        self.tally = tally
        self.telling = telling
        self._holding = holding
        self.networks = networks
        self._ip_versions = {
            subnet.id: subnet.ip_version for network in networks.values() for subnet in network.subnets
        }

    def among(self, networks: Mapping[str, NetworkPicture]) -> "PortWork":
        """The same work on another picture of networks; it is settled with this one."""
        return PortWork(self._means, self.connection, networks, tally=self.tally, telling=self.telling)

    async def settle(self) -> None:
        """Write what hosts hear of, and then what quotas count: rows for which everybody waits. Last, by whoever opened
        the transaction. Raises Stale if others took meanwhile what was left of a quota. Three statements, four where
        users have limits of their own."""
        await self.telling.settle()
        await self.tally.settle()

    async def insert(self, drafts: Sequence[NewPort]) -> list[Port | MusterError]:
        """Make these ports. An outcome is the port, or why this one cannot be; none fails because of another.

        Errors carry Neutron's types as codes: NetworkNotFound, SecurityGroupNotFound, MacAddressInUse, OverQuota,
        InvalidIpForSubnet, IpAddressAlreadyAllocated, IpAddressGenerationFailure, ...
        """
        now = self._means.clock()
        outcomes: dict[str, Port | MusterError] = {}
        refused = await self._refuse(drafts)
        left = [draft for draft in drafts if draft.id not in refused]
        macs = await self._macs(left, refused)
        askers = self._askers(left, macs, refused)
        left = [draft for draft in left if draft.id not in refused]
        await self._count(left, refused)
        askers = {port_id: asker for port_id, asker in askers.items() if port_id not in refused}
        groups = await self._groups([draft for draft in left if draft.id in askers])
        ports = {
            draft.id: self._port(draft, macs[draft.id], groups[draft.id], now) for draft in left if draft.id in askers
        }
        # Addresses refer to their ports, so ports come first, and those that got no address are taken out again.
        await store.insert_ports(self.connection, list(ports.values()))
        granted = await self._addresses(list(askers.values()), now)
        failed: list[NewPort] = []
        for draft, outcome in zip([d for d in left if d.id in askers], granted, strict=True):
            if isinstance(outcome, Granted):
                outcomes[draft.id] = _with_addresses(ports[draft.id], outcome, self._ip_versions)
            else:
                outcomes[draft.id] = outcome
                failed.append(draft)
        await self._undo(failed)
        await self._tell(outcomes.values())
        return [refused[draft.id] if draft.id in refused else outcomes[draft.id] for draft in drafts]

    async def add_ips(
        self, port_id: str, network_id: str, mac_address: str, wanted: Sequence[WantedIp]
    ) -> tuple[FixedIp, ...]:
        """Give a port further addresses. Raises what `insert` returns."""
        draft = NewPort(id=port_id, project_id="", network_id=network_id, fixed_ips=tuple(wanted))
        if error := check_visible(draft, self.networks) or duplicate_addresses(draft):
            raise error
        asker = Asker(port_id, network_id, wants_of(draft, self.networks[network_id], mac_address))
        [outcome] = await self._addresses([asker], self._means.clock())
        if isinstance(outcome, MusterError):
            raise outcome
        return _fixed_ips(outcome, self._ip_versions)

    async def remove_ips(self, port_id: str, fixed_ips: Sequence[FixedIp]) -> None:
        """Take addresses from a port; they rest."""
        free_at = self._means.clock() + self._means.settings.rest_s
        await address_store.release_some(self.connection, port_id, fixed_ips, free_at)

    async def remove_subnet_ips(self, subnet_id: str) -> None:
        """Take a subnet's addresses from all its ports, before it goes. Two statements."""
        free_at = self._means.clock() + self._means.settings.rest_s
        await address_store.release_subnet(self.connection, subnet_id, free_at)

    async def remove(self, port_ids: Sequence[str]) -> None:
        """Ports are gone, their addresses rest; ids of ports already gone are ignored. About ten statements."""
        await store.lock_ports(self.connection, port_ids)
        members = await member_store.read_of_ports(self.connection, port_ids)
        await address_store.release(self.connection, port_ids, self._means.clock() + self._means.settings.rest_s)
        # Given back is what this very transaction removed: another worker may have been at it.
        removed = await store.delete_ports(self.connection, port_ids)
        self.tally.give_back(Ask(port.project_id, {"port": 1}) for port in removed.values())
        gone = [member for port_id, member in members.items() if port_id in removed]
        await self.telling.members_changed(before=gone, after=())
        await self.telling.bindings_changed(went={port.binding for port in removed.values()})

    async def bind(self, wanted: Sequence[WantedBinding]) -> set[tuple[str, str]]:
        """Bind ports that are there; returns (port, server) of those that were free. Three statements."""
        bound = await binding_store.bind(self.connection, wanted, self._means.clock())
        came = await binding_store.read_bindings(self.connection, [port_id for port_id, _ in bound])
        await self.telling.bindings_changed(came=came)
        return bound

    async def unbind(self, port_ids: Sequence[str], server_ids: Collection[str]) -> None:
        """Those of these ports that belong to one of the servers belong to none any more. Three statements."""
        went = await binding_store.read_bindings(self.connection, port_ids)
        await binding_store.unbind(self.connection, port_ids, server_ids, self._means.clock())
        await self.telling.bindings_changed(went=went)

    async def _refuse(self, drafts: Sequence[NewPort]) -> dict[str, MusterError]:
        named = {group_id for draft in drafts for group_id in draft.security_group_ids or ()}
        projects = await store.read_group_projects(self.connection, named) if named else {}
        refused: dict[str, MusterError] = {}
        for draft in drafts:
            error = check_visible(draft, self.networks) or duplicate_addresses(draft) or _unknown_group(draft, projects)
            if error:
                refused[draft.id] = error
        return refused

    async def _macs(self, drafts: Sequence[NewPort], refused: dict[str, MusterError]) -> dict[str, str]:
        by_network: defaultdict[str, list[NewPort]] = defaultdict(list)
        for draft in drafts:
            by_network[draft.network_id].append(draft)
        macs: dict[str, str] = {}
        for network_id, members in by_network.items():
            named = [draft.mac_address for draft in members if draft.mac_address]
            taken = await store.read_macs(self.connection, network_id, named) if named else set()
            for draft in members:
                if draft.mac_address in taken:
                    refused[draft.id] = Conflict(
                        f"Unable to complete operation for network {network_id}. "
                        f"The mac address {draft.mac_address} is in use.",
                        code="network.MacAddressInUse",
                    )
                elif draft.mac_address:
                    taken.add(draft.mac_address)
                    macs[draft.id] = draft.mac_address
            unnamed = [draft.id for draft in members if not draft.mac_address]
            drawn = draw_macs(len(unnamed), self._means.settings.mac_prefix, taken, self._means.rng)
            macs.update(zip(unnamed, drawn, strict=True))
        return macs

    def _askers(
        self, drafts: Sequence[NewPort], macs: Mapping[str, str], refused: dict[str, MusterError]
    ) -> dict[str, Asker]:
        askers: dict[str, Asker] = {}
        for draft in drafts:
            if draft.id in refused:
                continue
            try:
                wants = wants_of(draft, self.networks[draft.network_id], macs[draft.id])
            except MusterError as error:
                refused[draft.id] = error
            else:
                askers[draft.id] = Asker(draft.id, draft.network_id, wants)
        return askers

    async def _count(self, drafts: Sequence[NewPort], refused: dict[str, MusterError]) -> None:
        asks = [Ask(draft.project_id, {"port": 1}) for draft in drafts]
        outcomes = await self.tally.admit(asks)
        for draft, refusal in zip(drafts, outcomes, strict=True):
            if refusal is not None:
                refused[draft.id] = Exhausted("Quota exceeded for resources: ['port'].", code="network.OverQuota")

    async def _addresses(self, askers: Sequence[Asker], now: float) -> list[Granted | MusterError]:
        if self._holding is None:
            return await allocate(self.connection, askers, self._ip_versions, now)
        return await self._holding.allocate(self.connection, askers, self.networks, now)

    async def _groups(self, drafts: Sequence[NewPort]) -> dict[str, tuple[str, ...]]:
        """The groups of each port: those named, none without port security, else the project's default group."""
        plain = {draft.project_id for draft in drafts if draft.security_group_ids is None and self._guarded(draft)}
        defaults = await self._means.default_groups.ensure_default(self.connection, plain) if plain else {}
        groups: dict[str, tuple[str, ...]] = {}
        for draft in drafts:
            if draft.security_group_ids is not None:
                groups[draft.id] = tuple(dict.fromkeys(draft.security_group_ids))
            else:
                groups[draft.id] = (defaults[draft.project_id],) if self._guarded(draft) else ()
        return groups

    def _guarded(self, draft: NewPort) -> bool:
        """Whether the port gets the default group: not if it has no port security, nor if the cloud itself owns it."""
        if draft.device_owner.startswith("network:"):
            return False
        if draft.port_security_enabled is None:
            return self.networks[draft.network_id].port_security_enabled
        return draft.port_security_enabled

    def _port(self, draft: NewPort, mac_address: str, groups: tuple[str, ...], now: float) -> Port:
        security = draft.port_security_enabled
        if security is None:
            own = not draft.device_owner.startswith("network:")
            security = own and self.networks[draft.network_id].port_security_enabled
        return Port(
            id=draft.id,
            project_id=draft.project_id,
            network_id=draft.network_id,
            name=draft.name,
            description=draft.description,
            mac_address=mac_address,
            admin_state_up=draft.admin_state_up,
            status="DOWN",
            device_id=draft.device_id,
            device_owner=draft.device_owner,
            device_position=draft.device_position,
            port_security_enabled=security,
            allowed_address_pairs=draft.allowed_address_pairs,
            extra_dhcp_opts=draft.extra_dhcp_opts,
            binding_host_id=draft.binding_host_id,
            binding_vnic_type=draft.binding_vnic_type,
            binding_profile=draft.binding_profile,
            dns_name=draft.dns_name,
            revision=1,
            created_at=now,
            updated_at=now,
            security_group_ids=groups,
            tags=draft.tags,
        )

    async def _undo(self, failed: Sequence[NewPort]) -> None:
        if failed:
            await store.delete_ports(self.connection, [draft.id for draft in failed])
            self.tally.give_back(Ask(draft.project_id, {"port": 1}) for draft in failed)

    async def _tell(self, outcomes: Collection[Port | MusterError]) -> None:
        made = [outcome for outcome in outcomes if isinstance(outcome, Port)]
        members = [member_of(port) for port in made]
        await self.telling.members_changed(before=(), after=members)
        came = {Binding(port.network_id, port.binding_host_id) for port in made}
        await self.telling.bindings_changed(came=came)


def _unknown_group(draft: NewPort, projects: Mapping[str, str]) -> MusterError | None:
    for group_id in draft.security_group_ids or ():
        if projects.get(group_id) is None:
            return NotFound(f"Security group {group_id} does not exist", code="network.SecurityGroupNotFound")
    return None


def _fixed_ips(granted: Granted, ip_versions: Mapping[str, int]) -> tuple[FixedIp, ...]:
    return tuple(FixedIp(subnet_id, to_text(number, ip_versions[subnet_id])) for subnet_id, number in granted.addresses)


def _with_addresses(port: Port, granted: Granted, ip_versions: Mapping[str, int]) -> Port:
    return replace(port, fixed_ips=_fixed_ips(granted, ip_versions))
