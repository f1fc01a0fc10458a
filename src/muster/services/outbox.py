"""What hosts must hear of, written in the transaction that makes the change; `services.dispatcher` publishes it."""

from collections.abc import Collection
from typing import Protocol

from muster.base.clock import Clock
from muster.store import outbox as store
from muster.store.engine import Connection
from muster.store.outbox import Change


class ChangeSink(Protocol):
    """Where services note, within their transaction, what hosts must hear of."""

    async def servers_changed(self, connection: Connection, server_ids: Collection[str]) -> None: ...

    async def networks_changed(self, connection: Connection, network_ids: Collection[str]) -> None: ...

    async def groups_changed(self, connection: Connection, group_ids: Collection[str]) -> None: ...


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
        """Note security groups whose rules or members changed for the hosts that enforce them or refer to them."""
        await self.note(connection, await store.read_group_hosts(connection, group_ids))

    async def note(self, connection: Connection, changes: Collection[Change]) -> None:
        """Write the changes, raising each host's `desired_seq` once."""
        if changes:
            seqs = await store.raise_seqs(connection, {change.host_id for change in changes})
            await store.insert(connection, changes, seqs, self._clock())
