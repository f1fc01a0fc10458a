"""The outbox: which hosts must be told of which changes, written in the transaction that makes the change.

`seq` is the host's `desired_seq` that the change raised it to.
"""

from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Integer,
    Table,
    case,
    delete,
    exists,
    false,
    func,
    select,
    true,
    update,
)
from sqlalchemy import insert as insert_into
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.store.columns import moment, reference
from muster.store.dialects import among, chunks
from muster.store.engine import metadata
from muster.store.hosts import hosts, in_order
from muster.store.ports import port_security_groups, ports
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
    Column("member_generation", BigInteger, nullable=True),
    moment("created_at"),
    sqlite_autoincrement=True,
)


# The key of the lock of who publishes.
_OUTBOX = 0x6D75_7374_6572
#: How long a process may stand still with the claim, in seconds, until PostgreSQL takes it away.
CLAIM_S = 5.0
# As a `member_generation`: all members of a network, for a host that has just become one.
ALL_MEMBERS = 0


class Change(Struct, frozen=True, kw_only=True):
    """One thing that one host must hear of.

    Of a group either all, or the change that made its `member_generation`. Of a network either what it is, or what it
    is with all its members (ALL_MEMBERS), or the change that made its `member_generation`.
    """

    host_id: str
    server_id: str | None = None
    network_id: str | None = None
    security_group_id: str | None = None
    member_generation: int | None = None


class Note(Struct, frozen=True):
    """A change as the outbox holds it."""

    id: int
    host_id: str
    seq: int
    server_id: str | None
    network_id: str | None
    security_group_id: str | None
    member_generation: int | None
    created_at: float


async def insert(connection: AsyncConnection, changes: Collection[Change], seqs: Mapping[str, int], now: float) -> None:
    """Write changes, each with its host's number. One statement."""
    rows = [
        {
            "host_id": change.host_id,
            "seq": seqs[change.host_id],
            "server_id": change.server_id,
            "network_id": change.network_id,
            "security_group_id": change.security_group_id,
            "member_generation": change.member_generation,
            "created_at": now,
        }
        for change in changes
    ]
    await connection.execute(insert_into(outbox), rows)


_SOME = exists(select(outbox.c.id))
_LIMIT = func.set_config("idle_in_transaction_session_timeout", str(int(CLAIM_S * 1_000)), true())
# CASEs, since of an AND PostgreSQL may look at the right side first.
_LOCK = func.pg_try_advisory_xact_lock(_OUTBOX)
_FREE = case((_LOCK, _LIMIT.is_not(None)), else_=false())
_CLAIM = {"postgresql": select(case((_SOME, _FREE), else_=false())), "sqlite": select(_SOME)}
_DUE = {"postgresql": select(case((_SOME, _LOCK), else_=false())), "sqlite": select(_SOME)}


async def due(connection: AsyncConnection) -> bool:
    """Whether `claim` would succeed: a look without a transaction, since of many who are woken most come too late.

    On PostgreSQL it has the claim for the moment of this query, so whoever hears that it is free must claim it: another
    one may have been told meanwhile that it is not. One query.
    """
    return bool((await connection.execute(_DUE[connection.dialect.name])).scalar_one())


async def claim(connection: AsyncConnection) -> bool:
    """Whether there are notes and nobody is publishing them: then they are ours until the end of this transaction.

    Who finds none claims nothing, so whoever writes a note after that gets them. PostgreSQL holds a lock that nothing
    else takes; of a process that dies it is gone with its transaction, and of one that stands still as soon as that has
    been idle for CLAIM_S, so whoever has it says so in time that it lives (`keep`). SQLite has one process, whose
    dispatcher does one thing at a time. One query.
    """
    return bool((await connection.execute(_CLAIM[connection.dialect.name])).scalar_one())


async def keep(connection: AsyncConnection) -> None:
    """Say that whoever has the claim is alive. One query."""
    await connection.execute(select(1))


async def read(connection: AsyncConnection, limit: int, host_limit: int) -> list[Note]:
    """The notes of the hosts that have waited longest; of each host those that are before its others. One query."""
    longest = select(outbox.c.host_id).group_by(outbox.c.host_id).order_by(func.min(outbox.c.id)).limit(host_limit)
    statement = (
        select(
            outbox.c.id,
            outbox.c.host_id,
            outbox.c.seq,
            outbox.c.server_id,
            outbox.c.network_id,
            outbox.c.security_group_id,
            outbox.c.member_generation,
            outbox.c.created_at,
        )
        .where(outbox.c.host_id.in_(longest))
        .order_by(outbox.c.id)
        .limit(limit)
    )
    return [Note(*row) for row in await connection.execute(statement)]


async def read_waiting_hosts(connection: AsyncConnection, host_ids: Collection[str]) -> set[str]:
    """Which of these hosts have a note that is still to be published. One query per chunk."""
    found: set[str] = set()
    for part in chunks(sorted(host_ids)):
        statement = select(outbox.c.host_id).where(among(outbox.c.host_id, part)).distinct()
        found.update((await connection.execute(statement)).scalars())
    return found


async def remove(connection: AsyncConnection, ids: Sequence[int]) -> None:
    """These notes have been published. One statement per chunk."""
    for part in chunks(ids):
        await connection.execute(delete(outbox).where(among(outbox.c.id, part)))


async def raise_seqs(connection: AsyncConnection, host_ids: Collection[str], now: float) -> Mapping[str, int]:
    """Raise each host's `desired_seq` by one and return the new numbers. One statement per chunk."""
    seqs: dict[str, int] = {}
    for part in chunks(sorted(host_ids)):
        statement = (
            update(hosts)
            .where(hosts.c.id.in_(in_order(part)))
            .values(desired_seq=hosts.c.desired_seq + 1, desired_at=now)
            .returning(hosts.c.id, hosts.c.desired_seq)
        )
        seqs.update((await connection.execute(statement)).all())
    return seqs


async def raise_generations(connection: AsyncConnection, server_ids: Sequence[str]) -> None:
    """The servers' specs are newer than what hosts have. One statement per chunk."""
    for part in chunks(server_ids):
        statement = update(servers).where(among(servers.c.id, part)).values(generation=servers.c.generation + 1)
        await connection.execute(statement)


async def read_server_hosts(connection: AsyncConnection, server_ids: Collection[str]) -> list[Change]:
    """A change per server that has a host and is not deleted. One query per chunk."""
    changes: list[Change] = []
    for part in chunks(sorted(server_ids)):
        statement = select(servers.c.host_id, servers.c.id).where(
            among(servers.c.id, part), servers.c.host_id.is_not(None), servers.c.deleted_at.is_(None)
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
            select(hosts.c.id, ports.c.network_id)
            .join(hosts, hosts.c.hostname == ports.c.binding_host_id)
            .where(among(ports.c.network_id, part))
            .distinct()
        )
        rows = await connection.execute(statement)
        changes += [Change(host_id=host_id, network_id=network_id) for host_id, network_id in rows]
    return changes


async def read_hosts_in_groups(connection: AsyncConnection, group_ids: Collection[str]) -> list[str]:
    """The hosts that enforce security groups and have a port in any of these.

    One query; it looks at each host's ports until it finds one, not at the members of a group.
    """
    port = exists().where(ports.c.binding_host_id == hosts.c.hostname, _in_groups(group_ids))
    statement = select(hosts.c.id).where(hosts.c.firewall, port).order_by(hosts.c.id)
    return list((await connection.execute(statement)).scalars())


async def read_hosts_told(connection: AsyncConnection, group_id: str, host_ids: Collection[str]) -> set[str]:
    """Which of these hosts have been told of a group: those with a port in it whose server waits in no note.

    One query per chunk, as `read_hosts_in_groups`.
    """
    told: set[str] = set()
    waiting = select(outbox.c.server_id).where(outbox.c.server_id.is_not(None))
    for part in chunks(sorted(host_ids)):
        port = exists().where(
            ports.c.binding_host_id == hosts.c.hostname, ports.c.device_id.not_in(waiting), _in_groups([group_id])
        )
        told.update((await connection.execute(select(hosts.c.id).where(among(hosts.c.id, part), port))).scalars())
    return told


def _in_groups(group_ids: Collection[str]) -> ColumnElement[bool]:
    links = port_security_groups.c
    return exists().where(links.port_id == ports.c.id, among(links.security_group_id, group_ids))
