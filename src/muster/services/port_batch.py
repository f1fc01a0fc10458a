"""Making and removing ports in batches: the one path that every port takes, whoever asks for it.

The order is the invariant: the locks of all subnets concerned (in a fixed order), one transaction in which everything
is decided and written, commit, release. A batch of any size costs the locks of its subnets and about fifteen
statements. Where its addresses are on lease (`services.leases`), it costs no lock; nor does it where nothing but ports
is made: what is short is then decided last, with the subnets' rows held. Rows of networks are taken before those of
subnets. The ports API, servers' interfaces and DHCP ports all come through here.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from random import Random
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from muster.base.clock import Clock
from muster.base.errors import Conflict, Exhausted, MusterError, NotFound, Stale
from muster.domain.addresses import REST_S, to_text
from muster.domain.group_members import member_of
from muster.domain.leases import LEASE_S, Stock, demand_of
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
from muster.locks.protocol import Grant, LockService
from muster.services.addresses import Asker, Granted, allocate
from muster.services.leases import Holding
from muster.services.outbox import ChangeSink
from muster.services.quotas import Quotas
from muster.services.tally import Tally
from muster.store import addresses as address_store
from muster.store import group_members as member_store
from muster.store import networks as network_store
from muster.store import port_batch as store
from muster.store import server_ports as binding_store
from muster.store.engine import Connection, Database, Violation
from muster.store.server_ports import WantedBinding

# Constraints whose violation means that something was given out twice at the same time: the batch is decided again.
_RACES = frozenset({"pk_addresses", "pk_free_ranges", "uq_ports_network_id_mac_address"})


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


class PortBatch:
    """Opens transactions in which ports are made and removed."""

    def __init__(  # noqa: PLR0913 - the dependencies of a service, named where it is wired
        self,
        *,
        database: Database,
        locks: LockService,
        clock: Clock,
        rng: Random,
        quotas: Quotas,
        changes: ChangeSink,
        default_groups: DefaultGroups,
        settings: PortSettings | None = None,
    ) -> None:
        self._database = database
        self._locks = locks
        self.clock = clock
        self.rng = rng
        self.quotas = quotas
        self.changes = changes
        self.default_groups = default_groups
        self.settings = settings or PortSettings()
        lease_s = self.settings.lease_s
        # One process, whose transactions follow each other anyway, has nobody to share with.
        self._lease_s = (0.0 if database.is_sqlite else LEASE_S) if lease_s is None else lease_s
        self._stock = Stock()

    @asynccontextmanager
    async def transaction(
        self, network_ids: Collection[str], *, changes_subnets: bool = False
    ) -> AsyncIterator["PortWork"]:
        """Hold the locks of these networks' subnets and one write transaction; commit at the end of the block.

        With `changes_subnets` nobody makes ports on these networks meanwhile, with a lock or without. Raises Stale when
        the networks changed while the locks were awaited, a lock was lost, or the store refused a double: the caller
        decides again (`services.redecide`). Costs one lock per subnet and one commit.
        """
        before = await self._read(network_ids)
        async with self._under_locks(before, changes_subnets=changes_subnets) as work:
            yield work

    @asynccontextmanager
    async def creation(
        self, network_ids: Collection[str], drafts: Iterable[NewPort], *, nothing_else: bool = False
    ) -> AsyncIterator["PortWork"]:
        """As `transaction`, but only for making these ports, or some of them, in one `insert`.

        No lock is held where their addresses are on lease (`services.leases`). Nor is it where `nothing_else` is done:
        what is short is then decided last, for as long as it takes with the subnets' rows held. Who claims hosts before
        must not wait for these rows. Raises what `transaction` raises.
        """
        before = await self._read(network_ids)
        demand = demand_of(drafts, before) if self._lease_s else None
        if demand is None:
            async with self._under_locks(before) as work:
                yield work
            return
        holding = Holding(self._stock, demand, self.clock(), self._lease_s)
        committed = False
        try:
            async with self._with_leases(before, holding, by_rows=nothing_else) as work:
                yield work
            committed = True
        finally:
            holding.close(committed=committed)

    @asynccontextmanager
    async def removal(self, network_ids: Collection[str] = ()) -> AsyncIterator["PortWork"]:
        """A transaction in which ports of these networks may be removed or unbound, and none made; no locks.

        What is given back needs no decision: the ports' rows are held until the end.
        """
        async with self._database.write() as connection:
            networks = await store.read_pictures(connection, network_ids) if network_ids else {}
            work = PortWork(self, connection, networks, Tally(self.quotas, connection))
            yield work
            await work.tally.settle()

    async def _read(self, network_ids: Collection[str]) -> dict[str, NetworkPicture]:
        async with self._database.read() as connection:
            return await store.read_pictures(connection, network_ids)

    @asynccontextmanager
    async def _under_locks(
        self, before: Mapping[str, NetworkPicture], *, changes_subnets: bool = False
    ) -> AsyncIterator["PortWork"]:
        with _races():
            async with (
                self._locked(before) as grants,
                self._fenced(before, grants, changes_subnets=changes_subnets) as (connection, networks),
            ):
                work = PortWork(self, connection, networks, Tally(self.quotas, connection))
                yield work
                await work.tally.settle()

    @asynccontextmanager
    async def _with_leases(
        self, before: Mapping[str, NetworkPicture], holding: Holding, *, by_rows: bool
    ) -> AsyncIterator["PortWork"]:
        with _races():
            async with AsyncExitStack() as locked, AsyncExitStack() as transaction:
                if by_rows and holding.short:
                    connection = await transaction.enter_async_context(self._database.write())
                    networks = await self._kept(connection, before)
                    holding.decide_by_rows()
                else:
                    connection, networks = await self._claimed(before, holding, locked, transaction)
                work = PortWork(self, connection, networks, Tally(self.quotas, connection), holding)
                yield work
                await work.tally.settle()

    async def _claimed(
        self,
        before: Mapping[str, NetworkPicture],
        holding: Holding,
        locked: AsyncExitStack,
        transaction: AsyncExitStack,
    ) -> tuple[Connection, dict[str, NetworkPicture]]:
        """A transaction, left to `transaction`, in which all that the batch needs is claimed or can be decided.

        Where something is short the locks are taken, and left to `locked` unless all is leased and claimed: not before
        that, or the next in turn might take it.
        """
        if holding.short:
            grants = await locked.enter_async_context(self._locked(before))
            if not holding.is_large or not any(grant.contended for grant in grants.values()):
                holding.leave()
                return await transaction.enter_async_context(self._fenced(before, grants))
            async with self._fenced(before, grants) as (connection, networks):
                await holding.fill(connection, networks, self.clock())
            holding.filled()
        connection = await transaction.enter_async_context(self._database.write())
        networks = await self._kept(connection, before)
        await holding.claim(connection)
        await locked.aclose()
        return connection, networks

    def _locked(self, networks: Mapping[str, NetworkPicture]) -> AbstractAsyncContextManager[dict[str, Grant]]:
        return self._locks.hold_all([f"subnet/{subnet_id}" for subnet_id in _subnet_ids(networks)])

    @asynccontextmanager
    async def _fenced(
        self, before: Mapping[str, NetworkPicture], grants: Mapping[str, Grant], *, changes_subnets: bool = False
    ) -> AsyncIterator[tuple[Connection, dict[str, NetworkPicture]]]:
        """A transaction under these locks, and the networks as they are in it."""
        async with self._database.write() as connection:
            if changes_subnets:  # before the subnets' rows: so do all who take both
                await network_store.lock(connection, before)
            networks = await self._again(connection, before)
            tokens = {subnet_id: grants[f"subnet/{subnet_id}"].token for subnet_id in _subnet_ids(networks)}
            await store.record_fences(connection, tokens)
            yield connection, networks
            if any(grant.lost.is_set() for grant in grants.values()):
                raise Stale("A lock was lost before the commit")

    async def _kept(self, connection: Connection, before: Mapping[str, NetworkPicture]) -> dict[str, NetworkPicture]:
        """The networks as they are now, whose subnets nobody changes before the transaction ends."""
        await store.keep_subnets(connection, before)
        return await self._again(connection, before)

    async def _again(self, connection: Connection, before: Mapping[str, NetworkPicture]) -> dict[str, NetworkPicture]:
        """The networks as they are now. What one says of itself may be as old as the wait for the locks; a subnet may
        not."""
        networks = await store.with_subnets(connection, before)
        if _subnet_ids(networks) != _subnet_ids(before):
            raise Stale("The networks' subnets have changed")
        return networks


@contextmanager
def _races() -> Iterator[None]:
    try:
        yield
    except Violation as error:
        if error.constraint in _RACES:
            raise Stale(f"Given out twice at once: {error.constraint}") from error
        raise


def _subnet_ids(networks: Mapping[str, NetworkPicture]) -> set[str]:
    return {subnet.id for network in networks.values() for subnet in network.subnets}


class PortWork:
    """One transaction of ports. `connection` may be used for whatever else must be committed with them, and `tally` for
    what else it takes of quotas."""

    def __init__(
        self,
        batch: PortBatch,
        connection: Connection,
        networks: Mapping[str, NetworkPicture],
        tally: Tally,
        holding: Holding | None = None,
    ) -> None:
        self._batch = batch
        self.connection = connection
        self.tally = tally
        self._holding = holding
        self.networks = networks
        self._ip_versions = {
            subnet.id: subnet.ip_version for network in networks.values() for subnet in network.subnets
        }

    async def insert(self, drafts: Sequence[NewPort]) -> list[Port | MusterError]:
        """Make these ports. An outcome is the port, or why this one cannot be; none fails because of another.

        Errors carry Neutron's types as codes: NetworkNotFound, SecurityGroupNotFound, MacAddressInUse, OverQuota,
        InvalidIpForSubnet, IpAddressAlreadyAllocated, IpAddressGenerationFailure, ...
        """
        now = self._batch.clock()
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
        [outcome] = await self._addresses([asker], self._batch.clock())
        if isinstance(outcome, MusterError):
            raise outcome
        return _fixed_ips(outcome, self._ip_versions)

    async def remove_ips(self, port_id: str, fixed_ips: Sequence[FixedIp]) -> None:
        """Take addresses from a port; they rest."""
        free_at = self._batch.clock() + self._batch.settings.rest_s
        await address_store.release_some(self.connection, port_id, fixed_ips, free_at)

    async def remove_subnet_ips(self, subnet_id: str) -> None:
        """Take a subnet's addresses from all its ports, before it goes. Two statements."""
        free_at = self._batch.clock() + self._batch.settings.rest_s
        await address_store.release_subnet(self.connection, subnet_id, free_at)

    async def remove(self, port_ids: Sequence[str]) -> None:
        """Ports are gone, their addresses rest; ids of ports already gone are ignored. About ten statements."""
        await store.lock_ports(self.connection, port_ids)
        members = await member_store.read_of_ports(self.connection, port_ids)
        await address_store.release(self.connection, port_ids, self._batch.clock() + self._batch.settings.rest_s)
        # Given back is what this very transaction removed: another worker may have been at it.
        removed = await store.delete_ports(self.connection, port_ids)
        self.tally.give_back(Ask(port.project_id, {"port": 1}) for port in removed.values())
        gone = [member for port_id, member in members.items() if port_id in removed]
        await self._batch.changes.members_changed(self.connection, before=gone, after=())
        await self._batch.changes.bindings_changed(self.connection, went={port.binding for port in removed.values()})

    async def bind(self, wanted: Sequence[WantedBinding]) -> set[tuple[str, str]]:
        """Bind ports that are there; returns (port, server) of those that were free. Three statements."""
        bound = await binding_store.bind(self.connection, wanted, self._batch.clock())
        came = await binding_store.read_bindings(self.connection, [port_id for port_id, _ in bound])
        await self._batch.changes.bindings_changed(self.connection, came=came)
        return bound

    async def unbind(self, port_ids: Sequence[str], server_ids: Collection[str]) -> None:
        """Those of these ports that belong to one of the servers belong to none any more. Three statements."""
        went = await binding_store.read_bindings(self.connection, port_ids)
        await binding_store.unbind(self.connection, port_ids, server_ids, self._batch.clock())
        await self._batch.changes.bindings_changed(self.connection, went=went)

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
            drawn = draw_macs(len(unnamed), self._batch.settings.mac_prefix, taken, self._batch.rng)
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
        defaults = await self._batch.default_groups.ensure_default(self.connection, plain) if plain else {}
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
        await self._batch.changes.members_changed(self.connection, before=(), after=members)
        came = {Binding(port.network_id, port.binding_host_id) for port in made}
        await self._batch.changes.bindings_changed(self.connection, came=came)


def _unknown_group(draft: NewPort, projects: Mapping[str, str]) -> MusterError | None:
    for group_id in draft.security_group_ids or ():
        if projects.get(group_id) is None:
            return NotFound(f"Security group {group_id} does not exist", code="network.SecurityGroupNotFound")
    return None


def _fixed_ips(granted: Granted, ip_versions: Mapping[str, int]) -> tuple[FixedIp, ...]:
    return tuple(FixedIp(subnet_id, to_text(number, ip_versions[subnet_id])) for subnet_id, number in granted.addresses)


def _with_addresses(port: Port, granted: Granted, ip_versions: Mapping[str, int]) -> Port:
    return replace(port, fixed_ips=_fixed_ips(granted, ip_versions))
