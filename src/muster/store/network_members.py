"""Members of networks: the hosts that have ports of them and tunnels to others, and a short log of how they changed.

Invariant: a host is a member exactly while a port of the network is bound to it and it has an address for tunnels. What
decides is the member's row: who brings a port reads it locked, who takes one looks for others with the row locked.
"""

from collections.abc import Collection, Mapping

from msgspec import Struct
from sqlalchemy import ForeignKey, Table, delete, exists, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.network_members import tunnel_address
from muster.store.columns import reference, text
from muster.store.dialects import among, chunks, upsert
from muster.store.engine import metadata
from muster.store.hosts import hosts
from muster.store.member_log import MemberLog, change_columns
from muster.store.networks import networks
from muster.store.ports import ports

network_members = Table(
    "network_members",
    metadata,
    reference("network_id", ForeignKey("networks.id", ondelete="CASCADE"), primary_key=True),
    reference("host_id", primary_key=True, index=True),
    text("ip_address"),
)

network_member_changes = Table(
    "network_member_changes",
    metadata,
    *change_columns("network_member_changes", "network_id", networks),
    sqlite_autoincrement=True,
)

log = MemberLog(network_member_changes, "network_id", networks)

_PAIRS = 1_000


class Peer(Struct, frozen=True, order=True):
    """A host as a member of a network."""

    network_id: str
    host_id: str
    address: str


class Members(Struct, frozen=True):
    """All members of a network: their addresses by host, as of a generation."""

    generation: int
    addresses: Mapping[str, str]


async def join(connection: AsyncConnection, peers: Collection[Peer]) -> list[Peer]:
    """These are members; returns those that were none before.

    Nobody takes them out before the transaction ends. One query per chunk where all are there; else two, or a few
    where others are at the same ones.
    """
    wanted = {(peer.network_id, peer.host_id): peer for peer in peers}
    joined: list[Peer] = []
    left = sorted(wanted)
    while left:
        there = await _locked(connection, left, shared=True)
        left = [pair for pair in left if pair not in there]
        made = await _insert(connection, [wanted[pair] for pair in left])
        joined += made
        # What somebody else has made since we looked is still to be locked.
        left = sorted(set(left) - {(peer.network_id, peer.host_id) for peer in made})
    return joined


async def leave(connection: AsyncConnection, pairs: Collection[tuple[str, str]]) -> list[Peer]:
    """Of these (network, host) those without a port are members no more; returns who was. Two statements per chunk."""
    left: list[Peer] = []
    for part in chunks(sorted(pairs), _PAIRS):
        # Whoever brings a port holds the row until it is committed: the next statement sees that port.
        await _locked(connection, part, shared=False)
        left += await _delete(connection, part, only_without_port=True)
    return left


async def settle(connection: AsyncConnection, host_ids: Collection[str]) -> tuple[list[Peer], list[Peer]]:
    """Make true what is said of these hosts, which may have other addresses than before; returns (joined, left).

    Two queries per chunk, for any number of networks; two more where something is not as it should be.
    """
    joined: list[Peer] = []
    left: list[Peer] = []
    for part in chunks(sorted(host_ids)):
        mine = among(network_members.c.host_id, part)
        rows = await connection.execute(select(network_members).where(mine).order_by(*_KEY).with_for_update())
        told = {Peer(*row) for row in rows}
        bound = (
            select(ports.c.network_id, hosts.c.id, hosts.c.host_ip)
            .join(hosts, hosts.c.hostname == ports.c.binding_host_id)
            .where(among(hosts.c.id, part), hosts.c.firewall)
            .distinct()
        )
        true = {
            Peer(network_id, host_id, address)
            for network_id, host_id, host_ip in await connection.execute(bound)
            if (address := tunnel_address(host_ip)) is not None
        }
        for pairs in chunks(sorted((peer.network_id, peer.host_id) for peer in told - true), _PAIRS):
            left += await _delete(connection, pairs, only_without_port=False)
        joined += await _insert(connection, sorted(true - told))
    return joined, left


async def read(connection: AsyncConnection, network_ids: Collection[str]) -> dict[str, Members]:
    """All members of these networks. One statement per chunk, so that members and generation belong together."""
    generations: dict[str, int] = {}
    addresses: dict[str, dict[str, str]] = {}
    for part in chunks(sorted(network_ids)):
        statement = (
            select(networks.c.id, networks.c.member_generation, network_members.c.host_id, network_members.c.ip_address)
            .join(network_members, network_members.c.network_id == networks.c.id, isouter=True)
            .where(among(networks.c.id, part))
        )
        for network_id, generation, host_id, address in await connection.execute(statement):
            generations[network_id] = generation
            members = addresses.setdefault(network_id, {})
            if host_id is not None:
                members[host_id] = address
    return {network_id: Members(generation, addresses[network_id]) for network_id, generation in generations.items()}


_KEY = (network_members.c.network_id, network_members.c.host_id)


async def _locked(
    connection: AsyncConnection, pairs: Collection[tuple[str, str]], *, shared: bool
) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for part in chunks(sorted(pairs), _PAIRS):
        statement = select(*_KEY).where(tuple_(*_KEY).in_(part)).order_by(*_KEY).with_for_update(read=shared)
        found.update((network_id, host_id) for network_id, host_id in await connection.execute(statement))
    return found


async def _insert(connection: AsyncConnection, peers: Collection[Peer]) -> list[Peer]:
    made: list[Peer] = []
    for part in chunks(sorted(peers), _PAIRS):
        rows = [{"network_id": one.network_id, "host_id": one.host_id, "ip_address": one.address} for one in part]
        statement = upsert(connection, network_members).values(rows).on_conflict_do_nothing()
        made += [Peer(*row) for row in await connection.execute(statement.returning(network_members))]
    return made


async def _delete(
    connection: AsyncConnection, pairs: Collection[tuple[str, str]], *, only_without_port: bool
) -> list[Peer]:
    statement = delete(network_members).where(tuple_(*_KEY).in_(pairs))
    if only_without_port:
        port = exists().where(
            ports.c.network_id == network_members.c.network_id,
            ports.c.binding_host_id == hosts.c.hostname,
            hosts.c.id == network_members.c.host_id,
        )
        statement = statement.where(~port.correlate(network_members))
    return [Peer(*row) for row in await connection.execute(statement.returning(*network_members.c))]
