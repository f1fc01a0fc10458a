"""Publishes the outbox: one message per host for all of its changes, and everything for a host that asks.

A note is removed only after its message was taken by the bus, so a crash in between publishes it twice, which changes
nothing. A sweep every few seconds publishes what a dead process left.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from msgspec.structs import replace

from muster.base.clock import Clock
from muster.base.errors import MusterError
from muster.base.log import get_logger
from muster.base.metrics import MESSAGES
from muster.bus.protocol import Bus
from muster.domain.messages import Desired, encode, host_topic
from muster.domain.servers import Server
from muster.domain.specs import NetworkSpec, PortSpec, SecurityGroupSpec
from muster.store import hosts as host_store
from muster.store import outbox as store
from muster.store import servers as server_store
from muster.store import specs as spec_store
from muster.store.engine import Connection, Database
from muster.store.outbox import Note

log = get_logger(__name__)

_NOTES = 5_000
_SWEEP_S = 5.0


class Dispatcher:
    """Runs as one task per process; `wake` may be called from anywhere on its loop."""

    def __init__(self, database: Database, bus: Bus, clock: Clock) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._due = asyncio.Event()

    def wake(self) -> None:
        """Something is in the outbox."""
        self._due.set()

    async def run(self) -> None:
        """Publish whatever is due, for ever. A database or bus that is away is waited for."""
        while True:
            try:
                self._due.clear()
                while await self.publish():
                    pass
            except MusterError as error:
                log.warning("outbox not published", action="outbox.delayed", error=error.message)
                await asyncio.sleep(1.0)
            try:
                async with asyncio.timeout(_SWEEP_S):
                    await self._due.wait()
            except TimeoutError:
                continue

    async def publish(self) -> int:
        """Publish the oldest notes; returns how many. Two transactions and about eight queries for any number."""
        async with self._database.read() as connection:
            notes = await store.read(connection, _NOTES)
            messages = await self._messages(connection, notes) if notes else []
        if not notes:
            return 0
        await self._send(messages)
        async with self._database.write() as connection:
            await store.remove(connection, [note.id for note in notes])
        return len(notes)

    async def send_everything(self, nonces: Mapping[str, int]) -> None:
        """Send hosts all that they should have; `nonces` maps each to the nonce of the Hello that this answers, or 0.

        About eight queries for any number of hosts.
        """
        host_ids = nonces.keys()
        async with self._database.read() as connection:
            seqs = await host_store.read_desired_seqs(connection, host_ids)
            members: defaultdict[str, list[Server]] = defaultdict(list)
            for server in await server_store.read_of_hosts(connection, host_ids):
                members[server.host_id or ""].append(server)
            parts = await _Parts.read(connection, [server for group in members.values() for server in group], (), ())
        await self._send(
            [
                replace(parts.desired(host_id, members[host_id], 0, seq), everything=True, nonce=nonces[host_id])
                for host_id, seq in seqs.items()
            ]
        )

    async def _messages(self, connection: Connection, notes: Sequence[Note]) -> list[Desired]:
        found = await server_store.read_by_ids(connection, {note.server_id for note in notes if note.server_id})
        networks = {note.network_id for note in notes if note.network_id}
        groups = {note.security_group_id for note in notes if note.security_group_id}
        alive: dict[str | None, Server] = {s.id: s for s in found.values() if s.deleted_at is None}
        parts = await _Parts.read(connection, list(alive.values()), networks, groups)
        by_host: defaultdict[str, list[Note]] = defaultdict(list)
        for note in notes:
            by_host[note.host_id].append(note)
        messages = []
        for host_id, mine in by_host.items():
            ids = {note.server_id for note in mine}
            members = [alive[server_id] for server_id in ids if server_id in alive]
            first, last = min(note.seq for note in mine), max(note.seq for note in mine)
            message = parts.desired(host_id, members, first - 1, last)
            messages.append(parts.with_changes(message, mine))
        return messages

    async def _send(self, messages: Sequence[Desired]) -> None:
        await self._bus.publish([(host_topic(message.host_id), encode(message)) for message in messages])
        MESSAGES.labels("to_hosts").inc(len(messages))


class _Parts:
    """All that specs of a batch are made of, read once."""

    def __init__(self) -> None:
        self.ports: dict[str, list[PortSpec]] = {}
        self.networks: dict[str, NetworkSpec] = {}
        self.groups: dict[str, SecurityGroupSpec] = {}

    @classmethod
    async def read(
        cls, connection: Connection, servers: Sequence[Server], networks: Collection[str], groups: Collection[str]
    ) -> "_Parts":
        parts = cls()
        parts.ports = await spec_store.read_ports(connection, [server.id for server in servers])
        every = [port for ports in parts.ports.values() for port in ports]
        parts.networks = await spec_store.read_networks(connection, {port.network_id for port in every} | set(networks))
        firewalls = await host_store.any_firewall(connection)
        wanted = {group_id for port in every for group_id in port.security_group_ids} | set(groups)
        parts.groups = await spec_store.read_groups(connection, wanted) if firewalls else {}
        return parts

    def desired(self, host_id: str, servers: Sequence[Server], from_seq: int, to_seq: int) -> Desired:
        """The message for one host."""
        specs = tuple(spec_store.server_spec(server, self.ports.get(server.id, ())) for server in servers)
        ports = [port for spec in specs for port in spec.ports]
        networks = dict.fromkeys(port.network_id for port in ports)
        groups = dict.fromkeys(group_id for port in ports for group_id in port.security_group_ids)
        return Desired(
            host_id=host_id,
            from_seq=from_seq,
            to_seq=to_seq,
            servers=specs,
            networks=tuple(self.networks[network_id] for network_id in networks if network_id in self.networks),
            groups=self._with_remotes(groups),
        )

    def with_changes(self, message: Desired, notes: Sequence[Note]) -> Desired:
        """The message with the networks and groups that themselves have changed."""
        networks = {network.id: network for network in message.networks}
        networks |= {n.network_id: self.networks[n.network_id] for n in notes if n.network_id in self.networks}
        groups = {group.id: group for group in message.groups}
        groups |= {group.id: group for group in self._with_remotes([n.security_group_id for n in notes])}
        return replace(message, networks=tuple(networks.values()), groups=tuple(groups.values()))

    def _with_remotes(self, group_ids: Collection[str | None]) -> tuple[SecurityGroupSpec, ...]:
        mine = [self.groups[group_id] for group_id in group_ids if group_id in self.groups]
        remote = {rule.remote_group_id for group in mine for rule in group.rules if rule.remote_group_id}
        known = {group.id for group in mine}
        return (*mine, *(self.groups[group_id] for group_id in sorted(remote - known) if group_id in self.groups))
