"""Members of security groups: which addresses they have, and a short log of how they changed."""

from collections.abc import Collection, Sequence

from sqlalchemy import Table, Text, cast, select
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.group_members import Member
from muster.store.addresses import addresses
from muster.store.dialects import among, chunks
from muster.store.engine import metadata
from muster.store.member_log import MemberLog, change_columns
from muster.store.ports import port_security_groups, ports
from muster.store.security_groups import security_group_rules, security_groups

group_member_changes = Table(
    "group_member_changes",
    metadata,
    *change_columns("group_member_changes", "security_group_id", security_groups),
    sqlite_autoincrement=True,
)

log = MemberLog(group_member_changes, "security_group_id", security_groups)


async def read_referring(connection: AsyncConnection, group_ids: Collection[str]) -> dict[str, set[str]]:
    """The groups with a rule that names one of these as remote, by the one that is named. One query per chunk."""
    found: dict[str, set[str]] = {}
    columns = security_group_rules.c
    for part in chunks(sorted(group_ids)):
        statement = select(columns.remote_group_id, columns.security_group_id).where(
            among(columns.remote_group_id, part)
        )
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
        for group_id, address in await connection.execute(statement.where(among(links.security_group_id, part))):
            members.setdefault(group_id, []).append(address)
        pairs = select(links.security_group_id, ports.c.allowed_address_pairs).join(ports, ports.c.id == links.port_id)
        for group_id, listed in await connection.execute(pairs.where(among(links.security_group_id, part), _HAS_PAIRS)):
            members.setdefault(group_id, []).extend(pair["ip_address"] for pair in listed)
    return members


async def read_of_ports(connection: AsyncConnection, port_ids: Sequence[str]) -> dict[str, Member]:
    """What these ports are to their groups, by id; those in none are left out. Three queries per chunk."""
    groups: dict[str, list[str]] = {}
    found: dict[str, list[str]] = {}
    links = port_security_groups.c
    for part in chunks(port_ids):
        statement = select(links.port_id, links.security_group_id).where(among(links.port_id, part))
        for port_id, group_id in await connection.execute(statement):
            groups.setdefault(port_id, []).append(group_id)
        given = select(addresses.c.port_id, addresses.c.ip_address).where(among(addresses.c.port_id, part))
        for port_id, address in await connection.execute(given):
            found.setdefault(port_id, []).append(address)
        pairs = select(ports.c.id, ports.c.allowed_address_pairs).where(among(ports.c.id, part), _HAS_PAIRS)
        for port_id, listed in await connection.execute(pairs):
            found.setdefault(port_id, []).extend(pair["ip_address"] for pair in listed)
    return {port_id: Member(tuple(ids), tuple(found.get(port_id, ()))) for port_id, ids in groups.items()}


_HAS_PAIRS = cast(ports.c.allowed_address_pairs, Text) != "[]"
