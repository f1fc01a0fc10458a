"""What hosts must hear of, written in the transaction that makes the change; `services.dispatcher` publishes it."""

from collections.abc import Collection, Sequence
from typing import Protocol

from muster.base.clock import Clock
from muster.domain.group_members import Member, MemberChange, member_changes
from muster.domain.network_members import Binding
from muster.store import group_members as member_store
from muster.store import hosts as host_store
from muster.store import network_members as network_store
from muster.store import outbox as store
from muster.store.engine import Connection
from muster.store.network_members import Peer
from muster.store.outbox import ALL_MEMBERS, Change


class ChangeSink(Protocol):
    """Where services note, within their transaction, what hosts must hear of."""

    async def servers_changed(self, connection: Connection, server_ids: Collection[str]) -> None: ...

    async def networks_changed(self, connection: Connection, network_ids: Collection[str]) -> None: ...

    async def groups_changed(self, connection: Connection, group_ids: Collection[str]) -> None: ...

    async def members_changed(
        self, connection: Connection, before: Collection[Member], after: Collection[Member]
    ) -> None: ...

    async def bindings_changed(
        self, connection: Connection, *, came: Collection[Binding] = (), went: Collection[Binding] = ()
    ) -> None: ...


class Outbox:
    """See ChangeSink. Each method costs a handful of statements, whatever the number of ids, and nothing for none."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def servers_changed(self, connection: Connection, server_ids: Collection[str]) -> None:
        """Raise the servers' generation and note them for their hosts. Servers without a host are left alone."""
        changes = await store.read_server_hosts(connection, server_ids)
        await store.raise_generations(connection, [change.server_id for change in changes if change.server_id])
        await self.note(connection, changes)

    async def networks_changed(self, connection: Connection, network_ids: Collection[str]) -> None:
        """Note the networks for the hosts that have a port on them."""
        await self.note(connection, await store.read_network_hosts(connection, network_ids))

    async def groups_changed(self, connection: Connection, group_ids: Collection[str]) -> None:
        """Note security groups whose rules changed, for the hosts that enforce them or refer to them.

        They are told anew as a whole, with all members: where only members changed, `members_changed` costs less.
        """
        if not group_ids or not await host_store.any_firewall(connection):
            return
        await member_store.log.raise_generations(connection, group_ids)
        referring = await member_store.read_referring(connection, group_ids)
        changes = []
        for group_id in sorted(group_ids):
            hearers = await store.read_hosts_in_groups(connection, {group_id, *referring.get(group_id, ())})
            changes += [Change(host_id=host_id, security_group_id=group_id) for host_id in hearers]
        await self.note(connection, changes)

    async def members_changed(
        self, connection: Connection, before: Collection[Member], after: Collection[Member]
    ) -> None:
        """Ports were made, changed or removed: note how this changes their groups' members.

        Only hosts with a rule that names such a group hear of it, and only what changed. Two statements per group, and
        three for the batch; one where no host enforces groups. None depends on the number of members.
        """
        changed = member_changes(before, after)
        if not changed or not await host_store.any_firewall(connection):
            return
        generations = await member_store.log.raise_generations(connection, changed)
        referring = await member_store.read_referring(connection, generations)
        changes = []
        for group_id, its_referring in sorted(referring.items()):
            hearers = await store.read_hosts_in_groups(connection, its_referring)
            changes += [
                Change(host_id=host_id, security_group_id=group_id, member_generation=generations[group_id])
                for host_id in hearers
            ]
        heard = {change.security_group_id for change in changes}
        logged = {group_id: change for group_id, change in changed.items() if group_id in heard}
        await member_store.log.insert(connection, logged, generations, self._clock())
        await self.note(connection, changes)

    async def bindings_changed(
        self, connection: Connection, *, came: Collection[Binding] = (), went: Collection[Binding] = ()
    ) -> None:
        """Ports were bound to hosts, or are bound no more: note which hosts this makes members of their networks.

        Only the first port of a network on a host and the last are news, told to the network's other members. One
        query where no host has tunnels, two where nothing is news; none depends on the number of ports.
        """
        named = {binding.hostname for binding in (*came, *went)} - {""}
        ends = await host_store.read_tunnels(connection, named) if named else {}
        if ends:
            peers = {Peer(one.network_id, *ends[one.hostname]) for one in came if one.hostname in ends}
            joined = await network_store.join(connection, peers)
            pairs = {(one.network_id, ends[one.hostname][0]) for one in went if one.hostname in ends}
            await self._note_members(connection, joined, await network_store.leave(connection, pairs))

    async def hosts_introduced(self, connection: Connection, host_ids: Collection[str]) -> None:
        """Hosts have said who they are: note where they are members, if it is not what was known. Two queries."""
        await self._note_members(connection, *await network_store.settle(connection, host_ids))

    async def _note_members(self, connection: Connection, joined: Sequence[Peer], left: Sequence[Peer]) -> None:
        """Log a step of each network of these, and note it for all its members; new ones need the whole list."""
        changed = {peer.network_id for peer in (*joined, *left)}
        if not changed:
            return
        generations = await network_store.log.raise_generations(connection, changed)
        steps = {network_id: _step(network_id, joined, left) for network_id in generations}
        await network_store.log.insert(connection, steps, generations, self._clock())
        new = {(peer.network_id, peer.host_id) for peer in joined}
        members = await network_store.read(connection, generations)
        await self.note(
            connection,
            [
                Change(
                    host_id=host_id,
                    network_id=network_id,
                    member_generation=ALL_MEMBERS if (network_id, host_id) in new else generations[network_id],
                )
                for network_id, its_members in sorted(members.items())
                for host_id in sorted(its_members.addresses)
            ],
        )

    async def note(self, connection: Connection, changes: Collection[Change]) -> None:
        """Write the changes, raising each host's `desired_seq` once."""
        if changes:
            now = self._clock()
            seqs = await store.raise_seqs(connection, {change.host_id for change in changes}, now)
            await store.insert(connection, changes, seqs, now)


def _step(network_id: str, joined: Sequence[Peer], left: Sequence[Peer]) -> MemberChange:
    return MemberChange(
        joined=tuple(sorted(peer.address for peer in joined if peer.network_id == network_id)),
        left=tuple(sorted(peer.address for peer in left if peer.network_id == network_id)),
    )
