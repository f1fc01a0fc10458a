"""Addresses given out, and the ranges that are still free.

Every address of a subnet's pools is in exactly one of three places: in a free range (never given out since the pools
were set), in `addresses` with a port (given out), or in `addresses` without one (released; rests until `free_at`).
An address whose rest is over is the first to be given again, so a subnet never has more rows than were in use at once
and rest. The primary key (subnet, address) is the last word on who has an address, whatever a lock said.

An address is kept as 32 hexadecimal digits of its number, so that IPv4 and IPv6 sort and compare alike everywhere.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from sqlalchemy import Column, ForeignKey, Index, Select, String, Table, delete, func, insert, select, union_all, update
from sqlalchemy import text as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.base.errors import Stale
from muster.domain.addresses import Range, from_key, to_key, to_text
from muster.domain.specs import FixedIp
from muster.store.columns import flag, moment, reference
from muster.store.dialects import Keyed, among, chunks, insert_rows, update_rows
from muster.store.engine import metadata
from muster.store.references import refer

free_ranges = Table(
    "free_ranges",
    metadata,
    reference("subnet_id", ForeignKey("subnets.id", ondelete="CASCADE"), primary_key=True),
    Column("first", String(32), primary_key=True),
    Column("last", String(32), nullable=False),
)

addresses = Table(
    "addresses",
    metadata,
    reference("subnet_id", primary_key=True),
    Column("address", String(32), primary_key=True),
    Column("ip_address", String(45), nullable=False, index=True),
    reference("network_id", nullable=False),
    reference("port_id", nullable=True),
    flag("pooled", default=True),  # False: outside the pools, forgotten when it is released
    moment("free_at", nullable=True),
    Index("ix_addresses_port_id", "port_id"),
    # The queue of released addresses, the one that has rested longest first.
    Index(
        "ix_addresses_resting",
        "subnet_id",
        "free_at",
        sqlite_where=sql("port_id IS NULL"),
        postgresql_where=sql("port_id IS NULL"),
    ),
)

refer(addresses, "subnet_id", "subnets")
refer(addresses, "port_id", "ports")

_LEASED = ("subnet_id", "address", "ip_address", "network_id", "pooled", "free_at")
_GIVEN = ("subnet_id", "address", "ip_address", "network_id", "port_id", "pooled")
# How many free ranges are read at first: one is enough for a subnet in its youth.
_FIRST_RANGES = 16
# SQLite takes at most 500 terms in a compound SELECT.
_TERMS = 200


async def read_ranges(connection: AsyncConnection, subnet_id: str, wanted: int) -> list[Range]:
    """The lowest free ranges that hold `wanted` addresses together, or all. One or two queries, O(wanted) rows."""
    limit = min(_FIRST_RANGES, max(wanted, 1))
    ranges = await _lowest_ranges(connection, subnet_id, limit)
    if len(ranges) == limit < wanted and sum(one.size for one in ranges) < wanted:
        ranges = await _lowest_ranges(connection, subnet_id, wanted)
    return ranges


async def _lowest_ranges(connection: AsyncConnection, subnet_id: str, limit: int) -> list[Range]:
    statement = (
        select(free_ranges.c.first, free_ranges.c.last)
        .where(free_ranges.c.subnet_id == subnet_id)
        .order_by(free_ranges.c.first)
        .limit(limit)
    )
    return [_range(first, last) for first, last in await connection.execute(statement)]


async def read_ranges_around(connection: AsyncConnection, subnet_id: str, numbers: Sequence[int]) -> list[Range]:
    """The free ranges that hold any of these addresses. A query per 200 addresses, each an index look-up."""
    found: set[Range] = set()
    for part in chunks(sorted(set(numbers)), _TERMS):
        terms = [_range_at_or_below(subnet_id, number).subquery().select() for number in part]
        rows = await connection.execute(union_all(*terms) if len(terms) > 1 else terms[0])
        found.update(_range(first, last) for first, last in rows)
    return sorted(one for one in found if any(one.first <= number <= one.last for number in numbers))


def _range_at_or_below(subnet_id: str, number: int) -> Select[tuple[str, str]]:
    return (
        select(free_ranges.c.first, free_ranges.c.last)
        .where(free_ranges.c.subnet_id == subnet_id, free_ranges.c.first <= to_key(number))
        .order_by(free_ranges.c.first.desc())
        .limit(1)
    )


async def read_all_ranges(connection: AsyncConnection, subnet_id: str) -> list[Range]:
    """All free ranges of a subnet, for a change of its pools. One query; as many rows as there are ranges."""
    statement = select(free_ranges.c.first, free_ranges.c.last).where(free_ranges.c.subnet_id == subnet_id)
    return sorted(_range(first, last) for first, last in await connection.execute(statement))


async def swap_ranges(
    connection: AsyncConnection, subnet_id: str, removed: Sequence[Range], added: Sequence[Range]
) -> None:
    """Replace ranges. Raises Stale if one of the removed is not there as it was read.

    One statement for one range that becomes another, else two per chunk.
    """
    if len(removed) == len(added) == 1:
        await _change_range(connection, subnet_id, removed[0], added[0])
        return
    for part in chunks(removed):
        firsts = [to_key(one.first) for one in part]
        lasts = [to_key(one.last) for one in part]
        statement = delete(free_ranges).where(
            free_ranges.c.subnet_id == subnet_id, among(free_ranges.c.first, firsts), among(free_ranges.c.last, lasts)
        )
        if (await connection.execute(statement)).rowcount != len(part):
            raise _changed(subnet_id)
    if added:
        rows = [{"subnet_id": subnet_id, "first": to_key(one.first), "last": to_key(one.last)} for one in added]
        await connection.execute(insert(free_ranges), rows)


async def _change_range(connection: AsyncConnection, subnet_id: str, old: Range, new: Range) -> None:
    """What nearly every batch does: it cuts from the lowest range."""
    statement = update(free_ranges).where(
        free_ranges.c.subnet_id == subnet_id,
        free_ranges.c.first == to_key(old.first),
        free_ranges.c.last == to_key(old.last),
    )
    values = {"first": to_key(new.first), "last": to_key(new.last)}
    if (await connection.execute(statement.values(**values))).rowcount != 1:
        raise _changed(subnet_id)


def _changed(subnet_id: str) -> Stale:
    return Stale(f"The free ranges of subnet {subnet_id} have changed")


async def read_resting(
    connection: AsyncConnection, subnet_id: str, *, limit: int, due_at: float | None = None
) -> list[int]:
    """Released addresses, the one that has rested longest first; with `due_at` only those whose rest is over then.

    What another transaction is about to give to a port is left out; these are the caller's until its own ends.
    One query.
    """
    statement = (
        select(addresses.c.address)
        .where(addresses.c.subnet_id == subnet_id, addresses.c.port_id.is_(None))
        .order_by(addresses.c.free_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    if due_at is not None:
        statement = statement.where(addresses.c.free_at <= due_at)
    return [from_key(key) for key in (await connection.execute(statement)).scalars()]


async def read_holders(connection: AsyncConnection, subnet_id: str, numbers: Iterable[int]) -> Mapping[int, str | None]:
    """Of these addresses those that were given out: the port that has each, None for one that rests."""
    holders: dict[int, str | None] = {}
    for part in chunks(sorted(set(numbers))):
        statement = select(addresses.c.address, addresses.c.port_id).where(
            addresses.c.subnet_id == subnet_id, among(addresses.c.address, [to_key(number) for number in part])
        )
        holders.update((from_key(key), port_id) for key, port_id in await connection.execute(statement))
    return holders


async def wake(connection: AsyncConnection, subnet_id: str, numbers: Sequence[int]) -> None:
    """End the rest of these addresses, so that they can be given out. Raises Stale if one does not rest any more."""
    for part in chunks(numbers):
        statement = delete(addresses).where(
            addresses.c.subnet_id == subnet_id,
            among(addresses.c.address, [to_key(number) for number in part]),
            addresses.c.port_id.is_(None),
        )
        if (await connection.execute(statement)).rowcount != len(part):
            raise Stale(f"Resting addresses of subnet {subnet_id} have changed")


class Given(Struct, frozen=True, kw_only=True, gc=False):
    """One address given to one port."""

    subnet_id: str
    network_id: str
    port_id: str
    number: int
    ip_version: int
    pooled: bool = True


async def give(connection: AsyncConnection, given: Sequence[Given]) -> None:
    """Write that these addresses have their ports. The primary key refuses one that is given already. One statement."""
    if given:
        rows = [
            (
                one.subnet_id,
                to_key(one.number),
                to_text(one.number, one.ip_version),
                one.network_id,
                one.port_id,
                one.pooled,
            )
            for one in given
        ]
        await insert_rows(connection, addresses, _GIVEN, rows)


class Leased(Struct, frozen=True, kw_only=True, gc=False):
    """One address that rests until `free_at`, set aside by one process."""

    subnet_id: str
    network_id: str
    number: int
    ip_version: int
    free_at: float


async def lease(connection: AsyncConnection, leased: Sequence[Leased]) -> None:
    """Write that these addresses rest. The primary key refuses one that is given already. One statement."""
    rows = [
        (one.subnet_id, to_key(one.number), to_text(one.number, one.ip_version), one.network_id, True, one.free_at)
        for one in leased
    ]
    await insert_rows(connection, addresses, _LEASED, rows)


async def claim(connection: AsyncConnection, subnet_id: str, numbers: Sequence[int]) -> dict[int, float]:
    """Of these addresses those that rest, and until when; nobody else gets them before this transaction ends.

    One query per chunk.
    """
    found: dict[int, float] = {}
    for part in chunks(sorted(numbers)):
        statement = (
            select(addresses.c.address, addresses.c.free_at)
            .where(
                addresses.c.subnet_id == subnet_id,
                among(addresses.c.address, [to_key(number) for number in part]),
                addresses.c.port_id.is_(None),
            )
            .order_by(addresses.c.address)
            .with_for_update()
        )
        found.update((from_key(key), free_at) for key, free_at in await connection.execute(statement))
    return found


async def give_leased(connection: AsyncConnection, given: Sequence[Given]) -> None:
    """Write that these addresses, which the caller has claimed, have their ports, and rest no more. One statement."""
    rows = [(one.subnet_id, to_key(one.number), one.port_id, None) for one in given]
    await update_rows(connection, addresses, ("subnet_id", "address"), ("port_id", "free_at"), rows)


async def release(connection: AsyncConnection, port_ids: Sequence[str], free_at: float) -> None:
    """All addresses of these ports rest until `free_at`. Two statements per chunk."""
    for part in chunks(port_ids):
        mine = among(addresses.c.port_id, part)
        await connection.execute(delete(addresses).where(mine, addresses.c.pooled.is_(False)))
        await connection.execute(update(addresses).where(mine).values(port_id=None, free_at=free_at))


async def release_subnet(connection: AsyncConnection, subnet_id: str, free_at: float) -> None:
    """All addresses that ports have in a subnet rest until `free_at`. Two statements."""
    mine = (addresses.c.subnet_id == subnet_id) & addresses.c.port_id.is_not(None)
    await connection.execute(delete(addresses).where(mine, addresses.c.pooled.is_(False)))
    await connection.execute(update(addresses).where(mine).values(port_id=None, free_at=free_at))


async def release_some(connection: AsyncConnection, port_id: str, fixed_ips: Sequence[FixedIp], free_at: float) -> None:
    """These addresses of one port rest until `free_at`."""
    for one in fixed_ips:
        mine = (
            (addresses.c.port_id == port_id)
            & (addresses.c.subnet_id == one.subnet_id)
            & (addresses.c.ip_address == one.ip_address)
        )
        await connection.execute(delete(addresses).where(mine, addresses.c.pooled.is_(False)))
        await connection.execute(update(addresses).where(mine).values(port_id=None, free_at=free_at))


_OF_PORTS = Keyed(
    addresses.c.port_id,
    lambda theirs: (
        select(addresses.c.port_id, addresses.c.subnet_id, addresses.c.ip_address)
        .where(theirs)
        .order_by(addresses.c.address)
    ),
)


async def read_by_port(connection: AsyncConnection, port_ids: Sequence[str]) -> Mapping[str, tuple[FixedIp, ...]]:
    """The addresses of these ports, in the order of their numbers. One query per chunk."""
    found: dict[str, list[FixedIp]] = {}
    for part in chunks(port_ids):
        for port_id, subnet_id, ip_address in await connection.execute(*_OF_PORTS(part)):
            found.setdefault(port_id, []).append(FixedIp(subnet_id, ip_address))
    return {port_id: tuple(fixed_ips) for port_id, fixed_ips in found.items()}


async def read_all_given(connection: AsyncConnection, subnet_id: str) -> list[tuple[int, str | None, bool]]:
    """(number, port or None, pooled) of all that was given out in a subnet, for a change of its pools."""
    statement = select(addresses.c.address, addresses.c.port_id, addresses.c.pooled).where(
        addresses.c.subnet_id == subnet_id
    )
    return [(from_key(key), port_id, pooled) for key, port_id, pooled in await connection.execute(statement)]


async def set_pooled(connection: AsyncConnection, subnet_id: str, numbers: Sequence[int], *, pooled: bool) -> None:
    """Whether these given addresses belong to the pools now."""
    for part in chunks(numbers):
        where = (addresses.c.subnet_id == subnet_id) & among(addresses.c.address, [to_key(number) for number in part])
        await connection.execute(update(addresses).where(where).values(pooled=pooled))


async def forget(connection: AsyncConnection, subnet_id: str) -> None:
    """Free ranges and resting addresses of a subnet that goes are gone. Those still given out stay, and hold it."""
    await connection.execute(delete(addresses).where(addresses.c.subnet_id == subnet_id, addresses.c.port_id.is_(None)))
    await connection.execute(delete(free_ranges).where(free_ranges.c.subnet_id == subnet_id))


async def count_given(connection: AsyncConnection, subnet_ids: Sequence[str]) -> Mapping[str, int]:
    """How many addresses of each subnet have a port."""
    statement = (
        select(addresses.c.subnet_id, func.count())
        .where(among(addresses.c.subnet_id, subnet_ids), addresses.c.port_id.is_not(None))
        .group_by(addresses.c.subnet_id)
    )
    rows = await connection.execute(statement)
    return {subnet_id: count for subnet_id, count in rows}  # noqa: C416 - a Row is not a pair to mypy


def _range(first: str, last: str) -> Range:
    return Range(from_key(first), from_key(last))
