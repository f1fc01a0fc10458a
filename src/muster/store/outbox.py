"""The outbox: which hosts must be told of which changes, written in the transaction that makes the change.

`seq` is the host's `desired_seq` that the change raised it to.
"""

from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct
from sqlalchemy import BigInteger, Column, Integer, Table, delete, select, update
from sqlalchemy import insert as insert_into
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.store.columns import moment, reference
from muster.store.dialects import chunks
from muster.store.engine import metadata
from muster.store.hosts import hosts
from muster.store.ports import port_security_groups, ports
from muster.store.security_groups import security_group_rules
from muster.store.servers import servers

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    reference("host_id", nullable=False),
    Column("seq", BigInteger, nullable=False),
    reference("server_id", nullable=True),
    reference("network_id", nullable=True),
    reference("security_group_id", nullable=True),
    moment("created_at"),
    sqlite_autoincrement=True,
)


class Change(Struct, frozen=True, kw_only=True):
    """One thing that one host must hear of."""

    host_id: str
    server_id: str | None = None
    network_id: str | None = None
    security_group_id: str | None = None


class Note(Struct, frozen=True, kw_only=True):
    """A change as the outbox holds it."""

    id: int
    host_id: str
    seq: int
    server_id: str | None
    network_id: str | None
    security_group_id: str | None


async def insert(connection: AsyncConnection, changes: Collection[Change], seqs: Mapping[str, int], now: float) -> None:
    """Write changes, each with its host's number. One statement."""
    rows = [
        {
            "host_id": change.host_id,
            "seq": seqs[change.host_id],
            "server_id": change.server_id,
            "network_id": change.network_id,
            "security_group_id": change.security_group_id,
            "created_at": now,
        }
        for change in changes
    ]
    await connection.execute(insert_into(outbox), rows)


async def read(connection: AsyncConnection, limit: int) -> list[Note]:
    """The oldest notes. One query."""
    statement = (
        select(
            outbox.c.id,
            outbox.c.host_id,
            outbox.c.seq,
            outbox.c.server_id,
            outbox.c.network_id,
            outbox.c.security_group_id,
        )
        .order_by(outbox.c.id)
        .limit(limit)
    )
    return [
        Note(id=row[0], host_id=row[1], seq=row[2], server_id=row[3], network_id=row[4], security_group_id=row[5])
        for row in await connection.execute(statement)
    ]


async def remove(connection: AsyncConnection, ids: Sequence[int]) -> None:
    """These notes have been published. One statement per chunk."""
    for part in chunks(ids):
        await connection.execute(delete(outbox).where(outbox.c.id.in_(part)))


async def raise_seqs(connection: AsyncConnection, host_ids: Collection[str]) -> Mapping[str, int]:
    """Raise each host's `desired_seq` by one and return the new numbers. One statement per chunk."""
    seqs: dict[str, int] = {}
    for part in chunks(sorted(host_ids)):
        statement = (
            update(hosts)
            .where(hosts.c.id.in_(part))
            .values(desired_seq=hosts.c.desired_seq + 1)
            .returning(hosts.c.id, hosts.c.desired_seq)
        )
        seqs.update((await connection.execute(statement)).all())
    return seqs


async def raise_generations(connection: AsyncConnection, server_ids: Sequence[str]) -> None:
    """The servers' specs are newer than what hosts have. One statement per chunk."""
    for part in chunks(server_ids):
        statement = update(servers).where(servers.c.id.in_(part)).values(generation=servers.c.generation + 1)
        await connection.execute(statement)


async def read_server_hosts(connection: AsyncConnection, server_ids: Collection[str]) -> list[Change]:
    """A change per server that has a host and is not deleted. One query per chunk."""
    changes: list[Change] = []
    for part in chunks(sorted(server_ids)):
        statement = select(servers.c.host_id, servers.c.id).where(
            servers.c.id.in_(part), servers.c.host_id.is_not(None), servers.c.deleted_at.is_(None)
        )
        rows = await connection.execute(statement)
        changes += [Change(host_id=host_id, server_id=server_id) for host_id, server_id in rows]
    return changes


async def read_network_hosts(connection: AsyncConnection, network_ids: Collection[str]) -> list[Change]:
    """A change per network and host that has a port on it. One query per chunk.

    A port may be bound to a name that is no host here (an administrator may write anything): nobody is told.
    """
    changes: list[Change] = []
    for part in chunks(sorted(network_ids)):
        statement = (
            select(ports.c.binding_host_id, ports.c.network_id)
            .join(hosts, hosts.c.id == ports.c.binding_host_id)
            .where(ports.c.network_id.in_(part))
            .distinct()
        )
        rows = await connection.execute(statement)
        changes += [Change(host_id=host_id, network_id=network_id) for host_id, network_id in rows]
    return changes


async def read_group_hosts(connection: AsyncConnection, group_ids: Collection[str]) -> list[Change]:
    """A change per group and host with a firewall that has a port in it, or in a group with a rule that refers to it.

    Nothing is read where no host has a firewall (a cloud of simulated hosts).
    """
    if not group_ids or not (await connection.execute(select(hosts.c.id).where(hosts.c.firewall).limit(1))).first():
        return []
    changes: set[tuple[str, str]] = set()
    for part in chunks(sorted(group_ids)):
        mine = select(port_security_groups.c.security_group_id.label("group_id"), port_security_groups.c.port_id).where(
            port_security_groups.c.security_group_id.in_(part)
        )
        referring = (
            select(security_group_rules.c.remote_group_id.label("group_id"), port_security_groups.c.port_id)
            .join(
                port_security_groups,
                port_security_groups.c.security_group_id == security_group_rules.c.security_group_id,
            )
            .where(security_group_rules.c.remote_group_id.in_(part))
        )
        concerned = mine.union(referring).subquery()
        statement = (
            select(ports.c.binding_host_id, concerned.c.group_id)
            .join(concerned, concerned.c.port_id == ports.c.id)
            .join(hosts, hosts.c.id == ports.c.binding_host_id)
            .where(hosts.c.firewall)
            .distinct()
        )
        changes.update((await connection.execute(statement)).all())
    return [Change(host_id=host_id, security_group_id=group_id) for host_id, group_id in sorted(changes)]
