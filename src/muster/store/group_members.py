"""Members of security groups: which addresses they have, and a short log of how they changed.

Each change of a group's members raises its `member_generation` in the same transaction. The log holds what hosts have
still to be told; what is older than any message on its way is forgotten.
"""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    and_,
    cast,
    delete,
    or_,
    select,
    update,
)
from sqlalchemy import insert as insert_into
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.group_members import Member, MemberChange
from muster.store.addresses import addresses
from muster.store.columns import flag, moment, reference, text
from muster.store.dialects import chunks
from muster.store.engine import metadata
from muster.store.ports import port_security_groups, ports
from muster.store.security_groups import security_group_rules, security_groups

group_member_changes = Table(
    "group_member_changes",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    reference("security_group_id", ForeignKey("security_groups.id", ondelete="CASCADE"), nullable=False),
    Column("generation", BigInteger, nullable=False),
    text("ip_address"),
    flag("joined"),
    moment("created_at"),
    Index("ix_group_member_changes_generation", "security_group_id", "generation"),
    Index("ix_group_member_changes_created_at", "created_at"),
    sqlite_autoincrement=True,
)


async def raise_generations(connection: AsyncConnection, group_ids: Collection[str]) -> dict[str, int]:
    """Members of these groups change: the new generation of each. One statement per group, always in one order."""
    raised: dict[str, int] = {}
    for group_id in sorted(group_ids):
        statement = (
            update(security_groups)
            .where(security_groups.c.id == group_id)
            .values(member_generation=security_groups.c.member_generation + 1)
            .returning(security_groups.c.member_generation)
        )
        generation = (await connection.execute(statement)).scalar_one_or_none()
        if generation is not None:
            raised[group_id] = generation
    return raised


async def insert(
    connection: AsyncConnection, changes: Mapping[str, MemberChange], generations: Mapping[str, int], now: float
) -> None:
    """Log how members changed, under the generations that this made. One statement."""
    rows = [
        {
            "security_group_id": group_id,
            "generation": generations[group_id],
            "ip_address": address,
            "joined": joined,
            "created_at": now,
        }
        for group_id, change in changes.items()
        for joined, addresses_ in ((True, change.joined), (False, change.left))
        for address in addresses_
    ]
    if rows:
        await connection.execute(insert_into(group_member_changes), rows)


async def read_changes(
    connection: AsyncConnection, wanted: Mapping[str, Collection[int]]
) -> dict[str, dict[int, MemberChange]]:
    """The logged changes of groups at these generations, as far as they are still there. One query per chunk."""
    columns = group_member_changes.c
    found: dict[tuple[str, int], tuple[list[str], list[str]]] = {}
    for part in chunks(sorted(wanted), 500):
        spans = [
            and_(columns.security_group_id == id_, columns.generation.between(min(wanted[id_]), max(wanted[id_])))
            for id_ in part
        ]
        statement = select(columns.security_group_id, columns.generation, columns.joined, columns.ip_address)
        for group_id, generation, joined, address in await connection.execute(statement.where(or_(*spans))):
            came, went = found.setdefault((group_id, generation), ([], []))
            (came if joined else went).append(address)
    changes: dict[str, dict[int, MemberChange]] = {}
    for (group_id, generation), (came, went) in found.items():
        changes.setdefault(group_id, {})[generation] = MemberChange(joined=tuple(came), left=tuple(went))
    return changes


async def forget(connection: AsyncConnection, before: float) -> None:
    """Drop what was logged before this moment. One statement."""
    await connection.execute(delete(group_member_changes).where(group_member_changes.c.created_at < before))


async def read_referring(connection: AsyncConnection, group_ids: Collection[str]) -> dict[str, set[str]]:
    """The groups with a rule that names one of these as remote, by the one that is named. One query per chunk."""
    found: dict[str, set[str]] = {}
    columns = security_group_rules.c
    for part in chunks(sorted(group_ids)):
        statement = select(columns.remote_group_id, columns.security_group_id).where(columns.remote_group_id.in_(part))
        for remote_id, group_id in await connection.execute(statement.distinct()):
            found.setdefault(remote_id, set()).add(group_id)
    return found


async def read_members(connection: AsyncConnection, group_ids: Collection[str]) -> dict[str, list[str]]:
    """All addresses of the members of these groups. Two queries per chunk; grows with the members."""
    members: dict[str, list[str]] = {}
    links = port_security_groups.c
    for part in chunks(sorted(group_ids)):
        statement = select(links.security_group_id, addresses.c.ip_address).join(
            addresses, addresses.c.port_id == links.port_id
        )
        for group_id, address in await connection.execute(statement.where(links.security_group_id.in_(part))):
            members.setdefault(group_id, []).append(address)
        pairs = select(links.security_group_id, ports.c.allowed_address_pairs).join(ports, ports.c.id == links.port_id)
        for group_id, listed in await connection.execute(pairs.where(links.security_group_id.in_(part), _HAS_PAIRS)):
            members.setdefault(group_id, []).extend(pair["ip_address"] for pair in listed)
    return members


async def read_of_ports(connection: AsyncConnection, port_ids: Sequence[str]) -> dict[str, Member]:
    """What these ports are to their groups, by id; those in none are left out. Three queries per chunk."""
    groups: dict[str, list[str]] = {}
    found: dict[str, list[str]] = {}
    links = port_security_groups.c
    for part in chunks(port_ids):
        statement = select(links.port_id, links.security_group_id).where(links.port_id.in_(part))
        for port_id, group_id in await connection.execute(statement):
            groups.setdefault(port_id, []).append(group_id)
        given = select(addresses.c.port_id, addresses.c.ip_address).where(addresses.c.port_id.in_(part))
        for port_id, address in await connection.execute(given):
            found.setdefault(port_id, []).append(address)
        pairs = select(ports.c.id, ports.c.allowed_address_pairs).where(ports.c.id.in_(part), _HAS_PAIRS)
        for port_id, listed in await connection.execute(pairs):
            found.setdefault(port_id, []).extend(pair["ip_address"] for pair in listed)
    return {port_id: Member(tuple(ids), tuple(found.get(port_id, ()))) for port_id, ids in groups.items()}


_HAS_PAIRS = cast(ports.c.allowed_address_pairs, Text) != "[]"
