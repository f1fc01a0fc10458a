"""Addresses leased ahead of time, so that batches of several workers do not queue for a subnet's lock.

A batch takes what it needs out of its process's stock. Where nothing but ports is made, what is short is decided with
the subnets' rows held, late in the batch's transaction; else under the subnets' locks. Either way some more is leased
for the next batch. All that the batch does is done under the locks, unless it is large and others wait for them too:
then it only leases what it needs, in a short transaction of its own. With all that it needs on lease its transaction
claims it, without a lock: the rows are locked until it ends, so whoever finds the subnet dry takes idle leases only.
What was taken while it was idle makes the batch Stale, before anything is written.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from muster.base.errors import MusterError, Stale
from muster.base.metrics import LEASES
from muster.domain.addresses import SubnetPlan
from muster.domain.leases import LARGE, Demand, Lease, Stock, ahead
from muster.domain.port_batch import NetworkPicture, Want
from muster.services.addresses import Asker, Granted, given_by, read_plans, serve, take, write_plans
from muster.store import addresses as store
from muster.store import port_batch as rows
from muster.store.engine import Connection


class Holding:
    """What one batch has of the stock. Whoever took it calls `close`, whatever came of the batch."""

    def __init__(self, stock: Stock, demand: Demand, now: float, lease_s: float) -> None:
        self._stock = stock
        self._lease_s = lease_s
        self._leases: list[Lease] = []  # for this batch
        self._used: list[Lease] = []  # of these
        self._more: list[Lease] = []  # for the next one, as soon as they are committed
        self._claimed = False
        self._by_rows = False
        self.short: dict[tuple[str, ...], int] = {}
        for candidates, count in demand.items():
            mine = stock.take(candidates, count, now)
            self._leases += mine
            if len(mine) < count:
                self.short[candidates] = count - len(mine)

    @property
    def is_large(self) -> bool:
        """Whether so much is short that it should be leased by itself."""
        return sum(self.short.values()) > LARGE

    def leave(self) -> None:
        """What of this was in stock is to be had again: the batch is decided under the locks."""
        self._stock.put(self._leases)
        self._leases = []

    def decide_by_rows(self) -> None:
        """As `leave`, but without a lock: `allocate` holds the subnets' rows from then to the transaction's end."""
        self.leave()
        self._by_rows = True

    async def fill(self, connection: Connection, networks: Mapping[str, NetworkPicture], now: float) -> None:
        """Lease what is short, or what there is of it, and some more. Under the locks; about six statements a subnet.

        It is to be had once this is committed (`filled`).
        """
        wants = [Want(candidates) for candidates, count in self.short.items() for _ in range(count)]
        mine = [Want((lease.subnet_id,)) for lease in self._leases]
        plans = await read_plans(connection, [Asker("", "", (want,)) for want in (*wants, *wants, *mine)], now)
        for lease in self._leases:  # rests as all do that nobody uses yet, but is taken already
            if lease.subnet_id in plans:
                plans[lease.subnet_id].leave(lease.number)
        taken = [one for one in (take(want, plans) for want in wants) if not isinstance(one, MusterError)]
        more = _ahead(plans, self.short)
        await write_plans(connection, plans)
        until = now + self._lease_s
        await _write(connection, (*taken, *more), networks, until)
        self._leases += [Lease(*one, until) for one in taken]
        self._more = [Lease(*one, until) for one in more]

    def filled(self) -> None:
        """What was leased for the next batch is everybody's in this process."""
        self._stock.put(self._more)
        self._more = []

    async def claim(self, connection: Connection) -> None:
        """Make sure that all leases are still there, and that nobody takes them before the transaction ends.

        Raises Stale if some are gone; the others go back to the stock. One query per subnet.
        """
        kept: list[Lease] = []
        for subnet_id, leases in self._by_subnet().items():
            there = await store.claim(connection, subnet_id, [lease.number for lease in leases])
            still = [lease for lease in leases if there.get(lease.number) == lease.until]
            if len(still) < len(leases):  # nor can the others of this subnet be relied on
                self._stock.forget(subnet_id)
            kept += still
        lost, self._leases = len(self._leases) - len(kept), kept
        if lost:
            LEASES.labels("lost").inc(lost)
            raise Stale("Leased addresses have been taken")
        self._claimed = True

    async def allocate(
        self, connection: Connection, askers: Sequence[Asker], networks: Mapping[str, NetworkPicture], now: float
    ) -> list[Granted | MusterError]:
        """Give each asker its addresses, as `services.addresses.allocate` does.

        Out of what was claimed: one statement. Else under the locks, or with the subnets' rows held, and with some more
        on lease: one or two more than there.
        """
        versions = {subnet.id: subnet.ip_version for network in networks.values() for subnet in network.subnets}
        if self._claimed:
            return await self._use(connection, askers, versions)
        wants = [want for asker in askers for want in asker.wants]
        if self._by_rows:
            await rows.hold_subnets(connection, {subnet_id for want in wants for subnet_id in want.candidates})
        more = [Asker("", "", (want,)) for want in wants for _ in range(1 + LARGE // len(wants))]
        plans = await read_plans(connection, [*askers, *more], now)
        outcomes = [serve(asker, plans) for asker in askers]
        leased = _ahead(plans, Counter(want.candidates for want in wants))
        await write_plans(connection, plans)
        await store.give(connection, given_by(askers, outcomes, plans, versions))
        until = now + self._lease_s
        await _write(connection, leased, networks, until)
        self._more += [Lease(*one, until) for one in leased]
        return outcomes

    async def _use(
        self, connection: Connection, askers: Sequence[Asker], ip_versions: Mapping[str, int]
    ) -> list[Granted | MusterError]:
        plans = {
            subnet_id: SubnetPlan([], [lease.number for lease in leases], ())
            for subnet_id, leases in self._by_subnet().items()
        }
        outcomes = [serve(asker, plans) for asker in askers]
        given = given_by(askers, outcomes, plans, ip_versions)
        await store.give_leased(connection, given)
        used = {(one.subnet_id, one.number) for one in given}
        self._used += [lease for lease in self._leases if (lease.subnet_id, lease.number) in used]
        self._leases = [lease for lease in self._leases if (lease.subnet_id, lease.number) not in used]
        return outcomes

    def close(self, *, committed: bool) -> None:
        """What was not used is to be had again, and what was, if it was not committed or nobody knows."""
        self._stock.put(self._leases)
        self._stock.put(self._more if committed else self._used)

    def _by_subnet(self) -> dict[str, list[Lease]]:
        found: defaultdict[str, list[Lease]] = defaultdict(list)
        for lease in self._leases:
            found[lease.subnet_id].append(lease)
        return found


def _ahead(plans: Mapping[str, SubnetPlan], counts: Mapping[tuple[str, ...], int]) -> list[tuple[str, int]]:
    more: list[tuple[str, int]] = []
    for candidates, count in counts.items():
        plan = plans[candidates[0]]
        more += [(candidates[0], number) for number in plan.take_free(ahead(count, plan.free))]
    return more


async def _write(
    connection: Connection, leased: Sequence[tuple[str, int]], networks: Mapping[str, NetworkPicture], until: float
) -> None:
    subnets = {subnet.id: subnet for network in networks.values() for subnet in network.subnets}
    await store.lease(
        connection,
        [
            store.Leased(
                subnet_id=subnet_id,
                network_id=subnets[subnet_id].network_id,
                number=number,
                ip_version=subnets[subnet_id].ip_version,
                free_at=until,
            )
            for subnet_id, number in leased
        ],
    )
    LEASES.labels("taken").inc(len(leased))
