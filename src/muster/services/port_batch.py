"""Transactions in which ports are made and removed: the one path that every port takes, whoever asks for it.

The order is the invariant: the locks of all subnets concerned (in a fixed order), one transaction in which everything
is decided and written, commit, release. A batch of any size costs the locks of its subnets and about fifteen
statements. Where its addresses are on lease (`services.leases`), it costs no lock; nor does it where nothing but ports
is made: what is short is then decided last, with the subnets' rows held. Rows of networks are taken before those of
subnets. The ports API, servers' interfaces and DHCP ports all come through here.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from random import Random

from muster.base.clock import Clock
from muster.base.errors import Stale
from muster.domain.leases import LEASE_S, Stock, demand_of
from muster.domain.port_batch import (
    NetworkPicture,
)
from muster.domain.ports import NewPort
from muster.locks.protocol import Grant, LockService
from muster.services.leases import Holding
from muster.services.outbox import Outbox
from muster.services.port_work import DefaultGroups, Means, PortSettings, PortWork
from muster.services.quotas import Quotas
from muster.services.tally import Tally
from muster.store import networks as network_store
from muster.store import port_batch as store
from muster.store.engine import Connection, Database, Violation

# Constraints whose violation means that something was given out twice at the same time: the batch is decided again.
_RACES = frozenset({"pk_addresses", "pk_free_ranges", "uq_ports_network_id_mac_address"})


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
        changes: Outbox,
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
        self._means = Means(clock=clock, rng=rng, default_groups=default_groups, settings=self.settings)
        lease_s = self.settings.lease_s
        # One process, whose transactions follow each other anyway, has nobody to share with.
        self._lease_s = (0.0 if database.is_sqlite else LEASE_S) if lease_s is None else lease_s
        self._stock = Stock()

    @asynccontextmanager
    async def transaction(
        self, network_ids: Collection[str], *, changes_subnets: bool = False
    ) -> AsyncIterator[PortWork]:
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
    ) -> AsyncIterator[PortWork]:
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
    async def removal(self, network_ids: Collection[str] = ()) -> AsyncIterator[PortWork]:
        """A transaction in which ports of these networks may be removed or unbound, and none made; no locks.

        What is given back needs no decision: the ports' rows are held until the end.
        """
        async with self._database.write() as connection:
            networks = await store.read_pictures(connection, network_ids) if network_ids else {}
            work = self._work(connection, networks)
            yield work
            await work.settle()
        self.changes.committed(work.telling)

    def _work(
        self, connection: Connection, networks: Mapping[str, NetworkPicture], holding: Holding | None = None
    ) -> PortWork:
        tally, telling = Tally(self.quotas, connection), self.changes.begin(connection)
        return PortWork(self._means, connection, networks, tally=tally, telling=telling, holding=holding)

    async def _read(self, network_ids: Collection[str]) -> dict[str, NetworkPicture]:
        async with self._database.read() as connection:
            return await store.read_pictures(connection, network_ids)

    @asynccontextmanager
    async def _under_locks(
        self, before: Mapping[str, NetworkPicture], *, changes_subnets: bool = False
    ) -> AsyncIterator[PortWork]:
        with _races():
            async with (
                self._locked(before) as grants,
                self._fenced(before, grants, changes_subnets=changes_subnets) as (connection, networks),
            ):
                work = self._work(connection, networks)
                yield work
                await work.settle()
        self.changes.committed(work.telling)

    @asynccontextmanager
    async def _with_leases(
        self, before: Mapping[str, NetworkPicture], holding: Holding, *, by_rows: bool
    ) -> AsyncIterator[PortWork]:
        with _races():
            async with AsyncExitStack() as locked, AsyncExitStack() as transaction:
                if by_rows and holding.short:
                    connection = await transaction.enter_async_context(self._database.write())
                    networks = await self._kept(connection, before)
                    holding.decide_by_rows()
                else:
                    connection, networks = await self._claimed(before, holding, locked, transaction)
                work = self._work(connection, networks, holding)
                yield work
                await work.settle()
        self.changes.committed(work.telling)

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
