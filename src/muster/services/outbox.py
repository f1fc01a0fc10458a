"""What hosts must hear of, written in the transaction that makes the change; `services.dispatcher` publishes it.

It is written at the transaction's end, all of it together: a note raises its host's number, and rows of hosts, which
everybody's batches need, are held for as long as a commit takes. All transactions take them last and in one order.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

from muster.base.clock import Clock
from muster.domain.group_members import Member, MemberChange, member_changes
from muster.domain.network_members import Binding
from muster.store import group_members as member_store
from muster.store import hosts as host_store
from muster.store import network_members as network_store
from muster.store import outbox as store
from muster.store.engine import Connection, Database
from muster.store.network_members import Peer
from muster.store.outbox import ALL_MEMBERS, Change


class Telling:
    """Of one transaction; whoever opened it calls `settle` at its end and `Outbox.committed` after its commit
    (`Outbox.transaction` does).

    What is called costs a handful of statements, whatever the number of ids, and nothing for none.
    """

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._changes: list[Change] = []
        self.has_told = False
        self._real_hosts: bool | None = None

    async def hold(self, host_ids: Collection[str]) -> None:
        """Before rows of these hosts are changed: take them with those of the hosts that are to hear of something, in
        everybody's order. One query, none where no host is to hear."""
        if self._changes:
            await host_store.hold(self._connection, {*host_ids, *(change.host_id for change in self._changes)})

    async def settle(self) -> None:
        """Write what hosts must hear of, raising each one's `desired_seq` once. Two statements, none for nothing."""
        changes, self._changes = self._changes, []
        if changes:
            seqs = await store.raise_seqs(self._connection, {change.host_id for change in changes}, self._clock())
            await self.write(changes, seqs)

    async def write(self, changes: Sequence[Change], seqs: Mapping[str, int]) -> None:
        """Write these at once, with the numbers to which their hosts have been raised already. One statement."""
        self.has_told = True
        await store.insert(self._connection, changes, seqs, self._clock())

    def note(self, changes: Sequence[Change]) -> None:
        """Note these as they are: who calls has made them in this transaction, generations included."""
        self._changes += changes

    async def servers_changed(self, server_ids: Collection[str]) -> None:
        """Raise the servers' generation and note them for their hosts. Servers without a host are left alone."""
        changes = await store.read_server_hosts(self._connection, server_ids)
        await store.raise_generations(self._connection, [change.server_id for change in changes if change.server_id])
        self._changes += changes

    async def networks_changed(self, network_ids: Collection[str]) -> None:
        """Note the networks for the hosts that have a port on them."""
        self._changes += await store.read_network_hosts(self._connection, network_ids)

    async def groups_changed(self, group_ids: Collection[str]) -> None:
        """Note security groups whose rules changed, for the hosts that enforce them or refer to them.

        They are told anew as a whole, with all members: where only members changed, `members_changed` costs less.
        """
        if not group_ids or not await self._any_real_host():
            return
        await member_store.log.raise_generations(self._connection, group_ids)
        referring = await member_store.read_referring(self._connection, group_ids)
        changes = []
        for group_id in sorted(group_ids):
            hearers = await store.read_hosts_in_groups(self._connection, {group_id, *referring.get(group_id, ())})
            changes += [Change(host_id=host_id, security_group_id=group_id) for host_id in hearers]
        self._changes += changes

    async def members_changed(self, before: Collection[Member], after: Collection[Member]) -> None:
        """Ports were made, changed or removed: note how this changes their groups' members.

        Only hosts with a rule that names such a group hear of it, and only what changed. Two statements per group, and
        three for the batch; one where no host enforces groups. None depends on the number of members.
        """
        changed = member_changes(before, after)
        if not changed or not await self._any_real_host():
            return
        generations = await member_store.log.raise_generations(self._connection, changed)
        referring = await member_store.read_referring(self._connection, generations)
        changes = []
        for group_id, its_referring in sorted(referring.items()):
            hearers = await store.read_hosts_in_groups(self._connection, its_referring)
            changes += [
                Change(host_id=host_id, security_group_id=group_id, member_generation=generations[group_id])
                for host_id in hearers
            ]
        heard = {change.security_group_id for change in changes}
        logged = {group_id: change for group_id, change in changed.items() if group_id in heard}
        await member_store.log.insert(self._connection, logged, generations, self._clock())
        self._changes += changes

    async def bindings_changed(self, *, came: Collection[Binding] = (), went: Collection[Binding] = ()) -> None:
        """Ports were bound to hosts, or are bound no more: note which hosts this makes members of their networks.

        Only the first port of a network on a host and the last are news, told to the network's other members. One
        query where no host has tunnels, three where nothing is news; none depends on the number of ports.
        """
        named = {binding.hostname for binding in (*came, *went)} - {""}
        if not named or not await self._any_real_host():
            return
        ends = await host_store.read_tunnels(self._connection, named)
        if ends:
            peers = {Peer(one.network_id, *ends[one.hostname]) for one in came if one.hostname in ends}
            joined = await network_store.join(self._connection, peers)
            pairs = {(one.network_id, ends[one.hostname][0]) for one in went if one.hostname in ends}
            await self._note_members(joined, await network_store.leave(self._connection, pairs))

    async def hosts_introduced(self, host_ids: Collection[str]) -> None:
        """Hosts have said who they are: note where they are members, if it is not what was known. Two queries."""
        await self._note_members(*await network_store.settle(self._connection, host_ids))

    async def _any_real_host(self) -> bool:
        """Whether any host enforces groups and may have tunnels. One query per transaction: hosts that this one places
        servers on were there before it asked."""
        if self._real_hosts is None:
            self._real_hosts = await host_store.any_firewall(self._connection)
        return self._real_hosts

    async def _note_members(self, joined: Sequence[Peer], left: Sequence[Peer]) -> None:
        """Log a step of each network of these, and note it for all its members; new ones need the whole list."""
        changed = {peer.network_id for peer in (*joined, *left)}
        if not changed:
            return
        generations = await network_store.log.raise_generations(self._connection, changed)
        steps = {network_id: _step(network_id, joined, left) for network_id in generations}
        await network_store.log.insert(self._connection, steps, generations, self._clock())
        new = {(peer.network_id, peer.host_id) for peer in joined}
        members = await network_store.read(self._connection, generations)
        self._changes += [
            Change(
                host_id=host_id,
                network_id=network_id,
                member_generation=ALL_MEMBERS if (network_id, host_id) in new else generations[network_id],
            )
            for network_id, its_members in sorted(members.items())
            for host_id in sorted(its_members.addresses)
        ]


class Outbox:
    """Where services say, within their transaction, what hosts must hear of; `wake` has it published."""

    def __init__(self, clock: Clock, wake: Callable[[], None] = lambda: None) -> None:
        self._clock = clock
        self._wake = wake

    def begin(self, connection: Connection) -> Telling:
        """For one transaction that is open: see `Telling`."""
        return Telling(connection, self._clock)

    def committed(self, telling: Telling) -> None:
        """Its transaction is committed: hosts need not wait for somebody's next look."""
        if telling.has_told:
            self._wake()

    @asynccontextmanager
    async def transaction(self, database: Database) -> AsyncIterator[tuple[Connection, Telling]]:
        """A write transaction, and what hosts hear of it. Raises what `Database.write` raises."""
        async with database.write() as connection:
            telling = self.begin(connection)
            yield connection, telling
            await telling.settle()
        self.committed(telling)


def _step(network_id: str, joined: Sequence[Peer], left: Sequence[Peer]) -> MemberChange:
    return MemberChange(
        joined=tuple(sorted(peer.address for peer in joined if peer.network_id == network_id)),
        left=tuple(sorted(peer.address for peer in left if peer.network_id == network_id)),
    )
