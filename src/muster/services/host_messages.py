"""What hosts are told: messages for many hosts at once, made of the newest that the database holds.

Invariant: members of security groups and networks cost what changes, not what is there. A host with a firewall is told
of a group as a whole when it gets its first port in it and when rules change; of its members, from then on, only who
joins and leaves. A host is told a network's members (hosts) when it becomes one, then who joins and leaves.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from msgspec.structs import replace

from muster.domain.group_members import MemberChange, remotes_of
from muster.domain.messages import Desired
from muster.domain.servers import Server
from muster.domain.specs import GroupMembers, NetworkSpec, PortSpec, SecurityGroupSpec, ServerSpec
from muster.store import group_members as member_store
from muster.store import hosts as host_store
from muster.store import network_members as network_store
from muster.store import outbox as outbox_store
from muster.store import servers as server_store
from muster.store import specs as spec_store
from muster.store.engine import Connection
from muster.store.member_log import MemberLog
from muster.store.network_members import Members
from muster.store.outbox import ALL_MEMBERS, Note


async def changes_for(connection: Connection, notes: Sequence[Note]) -> tuple[list[Desired], set[str]]:
    """A message per host of these notes, and the hosts that have to be sent everything besides.

    `connection` shows one picture: a list of members and its generation must belong together.
    About eight queries, and one per security group that some host may not know yet, for any number of notes.
    """
    found = await server_store.read_by_ids(connection, {note.server_id for note in notes if note.server_id})
    alive: dict[str | None, Server] = {server.id: server for server in found.values() if server.deleted_at is None}
    servers = await _Servers.read(connection, list(alive.values()), {n.network_id for n in notes if n.network_id})
    by_host: defaultdict[str, list[Note]] = defaultdict(list)
    for note in notes:
        by_host[note.host_id].append(note)
    drafts = [_draft(host_id, mine, servers, alive) for host_id, mine in by_host.items()]
    whole = await _unknown_groups(connection, drafts)
    for note in notes:
        if note.security_group_id and note.member_generation is None:
            whole[note.host_id].add(note.security_group_id)
    groups = await spec_store.read_groups(connection, {group_id for ids in whole.values() for group_id in ids})
    log = await _logged(connection, member_store.log, _group_steps(notes))
    peer_log = await _logged(connection, network_store.log, _network_steps(notes, servers.networks))
    peers = await network_store.read(
        connection, {note.network_id for note in notes if note.network_id and note.member_generation == ALL_MEMBERS}
    )
    messages, outdated = [], set()
    for draft in drafts:
        mine = by_host[draft.host_id]
        members = _member_changes(_group_steps(mine), log)
        steps = _member_changes(_network_steps(mine, servers.networks), peer_log)
        if members is None or steps is None:
            outdated.add(draft.host_id)
        joined = {note.network_id for note in mine if note.network_id and note.member_generation == ALL_MEMBERS}
        messages.append(
            replace(
                draft,
                groups=_with_remotes(groups, whole[draft.host_id]),
                members=tuple(members or ()),
                networks=_with_peers(draft.networks, {id_: peers[id_] for id_ in joined & peers.keys()}),
                peers=tuple(steps or ()),
            )
        )
    return messages, outdated


async def everything_for(connection: Connection, nonces: Mapping[str, int]) -> list[Desired]:
    """A message per host with all that it should have; see `Dispatcher.send_everything`."""
    host_ids = nonces.keys()
    seqs = await host_store.read_seqs(connection, host_ids)
    members: defaultdict[str, list[Server]] = defaultdict(list)
    for server in await server_store.read_of_hosts(connection, host_ids):
        members[server.host_id or ""].append(server)
    servers = await _Servers.read(connection, [server for group in members.values() for server in group], ())
    firewalls = await host_store.read_firewalls(connection, host_ids)
    drafts = [
        replace(
            servers.message(host_id, members[host_id], 0, desired_seq),
            everything=True,
            nonce=nonces[host_id],
            report_seq=report_seq,
        )
        for host_id, (desired_seq, report_seq) in seqs.items()
    ]
    needs = {draft.host_id: _groups_of(draft.servers) for draft in drafts if draft.host_id in firewalls}
    groups = await spec_store.read_groups(connection, {group_id for ids in needs.values() for group_id in ids})
    named = {network.id for draft in drafts if draft.host_id in firewalls for network in draft.networks}
    peers = await network_store.read(connection, named)
    return [
        replace(
            draft,
            groups=_with_remotes(groups, needs.get(draft.host_id, ())),
            networks=_with_peers(draft.networks, {id_: m for id_, m in peers.items() if draft.host_id in m.addresses}),
        )
        for draft in drafts
    ]


class _Servers:
    """Servers of a batch with all that their specs are made of, read once."""

    def __init__(self, ports: Mapping[str, Sequence[PortSpec]], networks: Mapping[str, NetworkSpec]) -> None:
        self._ports = ports
        self.networks = networks

    @classmethod
    async def read(cls, connection: Connection, servers: Sequence[Server], networks: Collection[str]) -> "_Servers":
        ports = await spec_store.read_ports(connection, [server.id for server in servers])
        named = {port.network_id for its_ports in ports.values() for port in its_ports} | set(networks)
        return cls(ports, await spec_store.read_networks(connection, named))

    def message(
        self, host_id: str, servers: Sequence[Server], from_seq: int, to_seq: int, networks: Iterable[str | None] = ()
    ) -> Desired:
        """The message for one host, without groups. `networks` go along besides those of the servers' ports."""
        specs = tuple(spec_store.server_spec(server, self._ports.get(server.id, ())) for server in servers)
        named = dict.fromkeys((*(port.network_id for spec in specs for port in spec.ports), *networks))
        return Desired(
            host_id=host_id,
            from_seq=from_seq,
            to_seq=to_seq,
            servers=specs,
            networks=tuple(self.networks[id_] for id_ in named if id_ is not None and id_ in self.networks),
        )


def _draft(host_id: str, notes: Sequence[Note], servers: _Servers, alive: Mapping[str | None, Server]) -> Desired:
    ids = {note.server_id for note in notes}
    members = [alive[server_id] for server_id in ids if server_id in alive]
    first, last = min(note.seq for note in notes), max(note.seq for note in notes)
    # Of a network's members a note may tell alone.
    return servers.message(host_id, members, first - 1, last, [n.network_id for n in notes if not n.member_generation])


async def _unknown_groups(connection: Connection, drafts: Sequence[Desired]) -> defaultdict[str, set[str]]:
    """The groups that each host needs for its servers and has perhaps not been told of before."""
    firewalls = await host_store.read_firewalls(connection, {draft.host_id for draft in drafts})
    needing: defaultdict[str, set[str]] = defaultdict(set)
    for draft in drafts:
        if draft.host_id in firewalls:
            for group_id in _groups_of(draft.servers):
                needing[group_id].add(draft.host_id)
    unknown: defaultdict[str, set[str]] = defaultdict(set)
    for group_id, host_ids in sorted(needing.items()):
        told = await outbox_store.read_hosts_told(connection, group_id, host_ids)
        for host_id in host_ids - told:
            unknown[host_id].add(group_id)
    return unknown


def _group_steps(notes: Sequence[Note]) -> list[tuple[str, int]]:
    """The groups of whose members these notes tell a change, each with its generation."""
    return [
        (note.security_group_id, note.member_generation)
        for note in notes
        if note.security_group_id and note.member_generation is not None
    ]


def _network_steps(notes: Sequence[Note], networks: Collection[str]) -> list[tuple[str, int]]:
    """The same for those of these networks of which a note tells."""
    return [
        (note.network_id, note.member_generation)
        for note in notes
        if note.network_id in networks and note.network_id and note.member_generation
    ]


async def _logged(
    connection: Connection, log: MemberLog, steps: Sequence[tuple[str, int]]
) -> dict[str, dict[int, MemberChange]]:
    wanted: defaultdict[str, set[int]] = defaultdict(set)
    for owner_id, generation in steps:
        wanted[owner_id].add(generation)
    return await log.read(connection, wanted) if wanted else {}


def _member_changes(
    steps: Sequence[tuple[str, int]], log: Mapping[str, Mapping[int, MemberChange]]
) -> list[GroupMembers] | None:
    """How members changed in these steps; None if that is not known any more."""
    changes = []
    for owner_id, generation in steps:
        change = log.get(owner_id, {}).get(generation)
        if change is None:
            return None
        changes.append(GroupMembers(id=owner_id, generation=generation, joined=change.joined, left=change.left))
    return changes


def _with_peers(networks: Sequence[NetworkSpec], peers: Mapping[str, Members]) -> tuple[NetworkSpec, ...]:
    """These networks, those of `peers` with their members."""
    return tuple(
        replace(
            network,
            member_generation=peers[network.id].generation,
            members=tuple(sorted(peers[network.id].addresses.values())),
        )
        if network.id in peers
        else network
        for network in networks
    )


def _groups_of(servers: Sequence[ServerSpec]) -> list[str]:
    ids = (group_id for server in servers for port in server.ports for group_id in port.security_group_ids)
    return list(dict.fromkeys(ids))


def _with_remotes(groups: Mapping[str, SecurityGroupSpec], group_ids: Iterable[str]) -> tuple[SecurityGroupSpec, ...]:
    mine = {group_id: groups[group_id] for group_id in group_ids if group_id in groups}
    remote = {remote_id for group in mine.values() for remote_id in remotes_of(group)}
    return (*mine.values(), *(groups[id_] for id_ in sorted(remote - mine.keys()) if id_ in groups))
