"""Statements on the driver's tables. Each function takes a connection within a transaction and is one statement,
or one per few hundred addresses, unless it says otherwise.

Conditional writes say how many rows they changed, and raise Stale when that is not what was expected: what was read
has changed, and is to be read again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from msgspec import Struct
from sqlalchemy import column, delete, insert, literal, select, table, union_all, update
from sqlalchemy.engine import Connection
from sqlalchemy.sql import Select

from muster.base.errors import Stale
from muster.domain.addresses import Range, from_key, to_key, to_number, to_text
from muster.neutron.tables import State, addresses, ranges, subnets

Item = TypeVar("Item")

_CHUNK = 500
_FIRST_RANGES = 16  # how many are read at first
_TERMS = 200  # SQLite takes at most 500 terms in a compound SELECT

# Neutron's own tables, as far as they are read here.
_neutron_subnets = table("subnets", column("id"), column("cidr"))
_neutron_pools = table("ipallocationpools", column("subnet_id"), column("first_ip"), column("last_ip"))
_neutron_allocations = table("ipallocations", column("subnet_id"), column("ip_address"), column("port_id"))


class Subnet(Struct, frozen=True):
    """A subnet that the driver knows; addresses are numbers."""

    id: str
    cidr: str
    pools: tuple[Range, ...]

    @property
    def ip_version(self) -> int:
        return 6 if ":" in self.cidr else 4

    def text(self, number: int) -> str:
        return to_text(number, self.ip_version)


def lock_subnet(connection: Connection, subnet_id: str) -> Subnet | None:
    """The subnet, its row locked until the transaction ends; None if the driver does not know it."""
    statement = select(subnets.c.cidr, subnets.c.pools).where(subnets.c.subnet_id == subnet_id).with_for_update()
    row = connection.execute(statement).first()
    return None if row is None else Subnet(subnet_id, row.cidr, _pools(row.pools))


def read_subnet(connection: Connection, subnet_id: str) -> Subnet | None:
    """The subnet, or None if the driver does not know it; locks nothing."""
    row = connection.execute(select(subnets.c.cidr, subnets.c.pools).where(subnets.c.subnet_id == subnet_id)).first()
    return None if row is None else Subnet(subnet_id, row.cidr, _pools(row.pools))


def is_known(connection: Connection, subnet_id: str) -> bool:
    """Whether the driver knows the subnet; locks nothing."""
    statement = select(subnets.c.subnet_id).where(subnets.c.subnet_id == subnet_id)
    return connection.execute(statement).first() is not None


def known_subnets(connection: Connection) -> list[Subnet]:
    """All subnets that the driver knows."""
    rows = connection.execute(select(subnets.c.subnet_id, subnets.c.cidr, subnets.c.pools))
    return [Subnet(row.subnet_id, row.cidr, _pools(row.pools)) for row in rows]


def add_subnet(connection: Connection, subnet: Subnet) -> None:
    connection.execute(insert(subnets).values(subnet_id=subnet.id, cidr=subnet.cidr, pools=_pools_text(subnet)))


def change_subnet(connection: Connection, subnet: Subnet) -> None:
    where = subnets.c.subnet_id == subnet.id
    connection.execute(update(subnets).where(where).values(cidr=subnet.cidr, pools=_pools_text(subnet)))


def remove_subnet(connection: Connection, subnet_id: str) -> None:
    """Forget all of a subnet. Four statements; its row first, lest an allocation that has it writes more meanwhile."""
    lock_subnet(connection, subnet_id)
    for one in (addresses, ranges, subnets):
        connection.execute(delete(one).where(one.c.subnet_id == subnet_id))


def read_free(connection: Connection, subnet_id: str, wanted: int, *, until: float) -> tuple[list[int], list[Range]]:
    """`wanted` addresses at the most that rest since `until` or longer, the longest first; and the lowest free ranges,
    as many as may be needed. One statement in a subnet's youth, two when its ranges are in splinters.
    """
    limit = min(wanted, _FIRST_RANGES)
    rested = _resting(subnet_id, wanted).where(addresses.c.since <= until).subquery().select()
    lowest = _lowest(subnet_id, limit).subquery().select()
    numbers, found = [], []
    for row in connection.execute(union_all(rested, lowest)):
        if row.last:
            found.append(_range(row))
        else:
            numbers.append((row.since, to_number(row.first)))
    if len(found) == limit < wanted and len(numbers) + sum(one.size for one in found) < wanted:
        found = [_range(row) for row in connection.execute(_lowest(subnet_id, wanted))]
    return [number for _, number in sorted(numbers)], found


def _lowest(subnet_id: str, limit: int) -> "Select[Any]":
    statement = select(ranges.c.first, ranges.c.last, literal(0.0).label("since"))
    return statement.where(ranges.c.subnet_id == subnet_id).order_by(ranges.c.first).limit(limit)


def _resting(subnet_id: str, limit: int) -> "Select[Any]":
    statement = select(addresses.c.ip_address.label("first"), literal("").label("last"), addresses.c.since)
    statement = statement.where(
        addresses.c.subnet_id == subnet_id,
        addresses.c.state == State.RESTING,
        addresses.c.pooled.is_(True),
    )
    return statement.order_by(addresses.c.since).limit(limit)


def ranges_around(connection: Connection, subnet_id: str, numbers: Iterable[int]) -> set[Range]:
    """The free ranges that have any of these addresses."""
    found: set[Range] = set()
    for part in _chunks(sorted(set(numbers)), _TERMS):
        terms = [_range_at_or_below(subnet_id, number).subquery().select() for number in part]
        rows = connection.execute(union_all(*terms) if len(terms) > 1 else terms[0])
        some = {_range(row) for row in rows}
        found |= {one for one in some if any(one.first <= number <= one.last for number in part)}
    return found


def _range_at_or_below(subnet_id: str, number: int) -> "Select[Any]":
    statement = select(ranges.c.first, ranges.c.last)
    statement = statement.where(ranges.c.subnet_id == subnet_id, ranges.c.first <= to_key(number))
    return statement.order_by(ranges.c.first.desc()).limit(1)


def all_ranges(connection: Connection, subnet_id: str) -> list[Range]:
    """All free ranges, read as they are now, whatever the transaction has seen before."""
    statement = select(ranges.c.first, ranges.c.last).where(ranges.c.subnet_id == subnet_id).with_for_update()
    return sorted(_range(row) for row in connection.execute(statement))


def read_ranges(connection: Connection, subnet_id: str) -> list[Range]:
    """All free ranges; locks nothing."""
    rows = connection.execute(select(ranges.c.first, ranges.c.last).where(ranges.c.subnet_id == subnet_id))
    return sorted(_range(row) for row in rows)


def read_states(connection: Connection, subnet_id: str) -> dict[int, State]:
    """The states of all addresses that have one; locks nothing."""
    statement = select(addresses.c.ip_address, addresses.c.state).where(addresses.c.subnet_id == subnet_id)
    return {to_number(row.ip_address): State(row.state) for row in connection.execute(statement)}


def swap_ranges(connection: Connection, subnet_id: str, removed: Sequence[Range], added: Sequence[Range]) -> None:
    """Replace ranges. Raises Stale if one of the removed is not there as it was read.

    One statement when a range only loses its beginning, as it does as a rule.
    """
    if len(removed) == len(added) == 1 and removed[0].last == added[0].last:
        [was], [left] = removed, added
        key = (ranges.c.subnet_id == subnet_id) & (ranges.c.first == to_key(was.first))
        statement = update(ranges).where(key, ranges.c.last == to_key(was.last)).values(first=to_key(left.first))
        _expect(connection.execute(statement).rowcount, 1)
        return
    for part in _chunks(removed):
        gone = delete(ranges).where(
            ranges.c.subnet_id == subnet_id,
            ranges.c.first.in_([to_key(one.first) for one in part]),
            ranges.c.last.in_([to_key(one.last) for one in part]),
        )
        _expect(connection.execute(gone).rowcount, len(part))
    for part in _chunks(added):
        rows = [{"subnet_id": subnet_id, "first": to_key(one.first), "last": to_key(one.last)} for one in part]
        connection.execute(insert(ranges), rows)


def states(connection: Connection, subnet: Subnet, numbers: Iterable[int]) -> Mapping[int, State]:
    """The states of those of these addresses that have one."""
    found: dict[int, State] = {}
    for part in _chunks(sorted(set(numbers))):
        statement = select(addresses.c.ip_address, addresses.c.state).where(_these(subnet, part))
        found.update((to_number(row.ip_address), State(row.state)) for row in connection.execute(statement))
    return found


def all_addresses(connection: Connection, subnet_id: str) -> dict[int, tuple[State, bool]]:
    """State and pooledness of all addresses that have a row, read as they are now and locked."""
    columns = (addresses.c.ip_address, addresses.c.state, addresses.c.pooled)
    statement = select(*columns).where(addresses.c.subnet_id == subnet_id).with_for_update()
    rows = connection.execute(statement)
    return {to_number(row.ip_address): (State(row.state), bool(row.pooled)) for row in rows}


def resting(connection: Connection, subnet_id: str, limit: int) -> list[int]:
    """Addresses of the pools that rest, the longest first."""
    return [to_number(row.first) for row in connection.execute(_resting(subnet_id, limit))]


class Entry(Struct, frozen=True):
    """An address as it is first written."""

    number: int
    pooled: bool
    state: State
    claim: str | None
    port_id: str | None = None


def add_addresses(connection: Connection, subnet: Subnet, entries: Sequence[Entry], now: float) -> None:
    """Write addresses that had no row. The primary key refuses one that has."""
    for part in _chunks(entries):
        rows = [
            {
                "subnet_id": subnet.id,
                "ip_address": subnet.text(one.number),
                "state": int(one.state),
                "pooled": one.pooled,
                "since": now,
                "claim": one.claim,
                "port_id": one.port_id,
            }
            for one in part
        ]
        connection.execute(insert(addresses), rows)


def wake(
    connection: Connection, subnet: Subnet, numbers: Iterable[int], state: State, claim: str | None, now: float
) -> None:
    """Give resting addresses a new state. Raises Stale if one does not rest any more."""
    for part in _chunks(sorted(numbers)):
        statement = update(addresses).where(_these(subnet, part), addresses.c.state == State.RESTING)
        values = {"state": int(state), "claim": claim, "since": now}
        _expect(connection.execute(statement.values(values)).rowcount, len(part))


def forget_resting(connection: Connection, subnet: Subnet, numbers: Iterable[int]) -> None:
    """Remove resting addresses. Raises Stale if one does not rest any more."""
    for part in _chunks(sorted(numbers)):
        statement = delete(addresses).where(_these(subnet, part), addresses.c.state == State.RESTING)
        _expect(connection.execute(statement).rowcount, len(part))


def set_pooled(connection: Connection, subnet: Subnet, numbers: Iterable[int], *, pooled: bool) -> None:
    """Say of these addresses whether they belong to the pools now."""
    for part in _chunks(sorted(numbers)):
        connection.execute(update(addresses).where(_these(subnet, part)).values(pooled=pooled))


def confirm(
    connection: Connection, subnet_id: str, ip_addresses: Sequence[str], claim: str, values: Mapping[str, Any]
) -> bool:
    """In the caller's transaction: what was claimed is held, or promised, as `values` say; they are of the row.

    False if one of the claims is not there any more.
    """
    statement = _update_by_key().where(
        addresses.c.subnet_id == subnet_id,
        addresses.c.ip_address.in_(ip_addresses),
        addresses.c.claim == claim,
        addresses.c.state == State.CLAIMED,
    )
    return connection.execute(statement.values(values)).rowcount == len(ip_addresses)


def give_back(connection: Connection, subnet_id: str, ip_addresses: Sequence[str], claim: str) -> int:
    """Claims that no port came to hold rest, ready for reuse at once. How many they were."""
    statement = update(addresses).where(
        addresses.c.subnet_id == subnet_id,
        addresses.c.ip_address.in_(ip_addresses),
        addresses.c.claim == claim,
        addresses.c.state == State.CLAIMED,
    )
    return connection.execute(statement.values(state=int(State.RESTING), claim=None, since=0.0)).rowcount


def release(connection: Connection, subnet_id: str, ip_address: str, now: float) -> None:
    """In the port's transaction: an address that was held rests. Two statements.

    Looked at first: a MySQL update that finds no row locks the gap in which others write theirs.
    """
    where = (addresses.c.subnet_id == subnet_id) & (addresses.c.ip_address == ip_address)
    if connection.execute(select(addresses.c.state).where(where)).first() is not None:
        values = {"state": int(State.RESTING), "claim": None, "port_id": None, "since": now}
        connection.execute(_update_by_key().where(where).values(values))


def take_again(connection: Connection, subnet_id: str, ip_address: str, values: Mapping[str, Any]) -> bool:
    """In the caller's transaction: an address that this very transaction released is held again, or promised."""
    statement = _update_by_key().where(
        addresses.c.subnet_id == subnet_id,
        addresses.c.ip_address == ip_address,
        addresses.c.state == State.RESTING,
    )
    return connection.execute(statement.values(values)).rowcount == 1


def old_rows(
    connection: Connection, subnet: Subnet, state: State, before: float, limit: int | None = None
) -> list[int]:
    """Addresses in a state since before then, locked; what another transaction has locked is passed over."""
    statement = select(addresses.c.ip_address).where(
        addresses.c.subnet_id == subnet.id, addresses.c.state == state, addresses.c.since < before
    )
    statement = statement.order_by(addresses.c.since).limit(limit).with_for_update(skip_locked=True)
    return [to_number(row.ip_address) for row in connection.execute(statement)]


def set_state(connection: Connection, subnet: Subnet, numbers: Iterable[int], state: State, since: float) -> None:
    """Change the state of rows that this transaction has locked."""
    for part in _chunks(sorted(numbers)):
        values = {"state": int(state), "claim": None, "since": since}
        if state is State.RESTING:
            values["port_id"] = None
        connection.execute(update(addresses).where(_these(subnet, part)).values(values))


def forget_outside(connection: Connection, subnet: Subnet) -> None:
    """Remove released addresses that are outside the pools; what another transaction has locked is passed over.

    One statement if there are none.
    """
    statement = select(addresses.c.ip_address).where(
        addresses.c.subnet_id == subnet.id,
        addresses.c.state == State.RESTING,
        addresses.c.pooled.is_(False),
    )
    rows = connection.execute(statement.limit(_CHUNK).with_for_update(skip_locked=True))
    if numbers := [to_number(row.ip_address) for row in rows]:
        connection.execute(delete(addresses).where(_these(subnet, numbers)))


def with_ports(connection: Connection, subnet: Subnet, numbers: Iterable[int]) -> set[int]:
    """Those of these addresses that a port of Neutron has, by Neutron's own table."""
    found: set[int] = set()
    for part in _chunks(sorted(set(numbers))):
        statement = select(_neutron_allocations.c.ip_address).where(
            _neutron_allocations.c.subnet_id == subnet.id,
            _neutron_allocations.c.ip_address.in_([subnet.text(number) for number in part]),
        )
        found.update(to_number(row.ip_address) for row in connection.execute(statement))
    return found


def neutron_subnet(connection: Connection, subnet_id: str) -> Subnet | None:
    """A subnet and its pools as Neutron's own tables say. Two statements."""
    cidr = connection.execute(select(_neutron_subnets.c.cidr).where(_neutron_subnets.c.id == subnet_id)).scalar()
    if cidr is None:
        return None
    statement = select(_neutron_pools.c.first_ip, _neutron_pools.c.last_ip)
    rows = connection.execute(statement.where(_neutron_pools.c.subnet_id == subnet_id))
    pools = sorted(Range(to_number(row.first_ip), to_number(row.last_ip)) for row in rows)
    return Subnet(subnet_id, str(cidr), tuple(pools))


def neutron_subnet_ids(connection: Connection) -> list[str]:
    """All subnets of Neutron."""
    return [str(row.id) for row in connection.execute(select(_neutron_subnets.c.id).order_by(_neutron_subnets.c.id))]


def neutron_allocations(connection: Connection, subnet_id: str) -> dict[int, str]:
    """Which port has which address of a subnet, by Neutron's own table."""
    statement = select(_neutron_allocations.c.ip_address, _neutron_allocations.c.port_id)
    rows = connection.execute(statement.where(_neutron_allocations.c.subnet_id == subnet_id))
    return {to_number(row.ip_address): str(row.port_id) for row in rows}


def _update_by_key() -> Any:
    """An update within a transaction of Neutron's, which is repeatable read.

    There MySQL locks what it reads on its way, with the gaps between. Left alone it may go by the index of states, and
    lock a gap in which another subnet's claim is to be written, of this very request perhaps.
    """
    statement = update(addresses)
    for dialect in ("mysql", "mariadb"):
        statement = statement.with_hint("FORCE INDEX (PRIMARY)", dialect_name=dialect)
    return statement


def _these(subnet: Subnet, numbers: Sequence[int]) -> Any:
    texts = [subnet.text(number) for number in numbers]
    return (addresses.c.subnet_id == subnet.id) & addresses.c.ip_address.in_(texts)


def _expect(changed: int, expected: int) -> None:
    if changed != expected:
        raise Stale(f"{changed} rows of {expected} are as they were read")


def _chunks(items: Sequence[Item], size: int = _CHUNK) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _range(row: Any) -> Range:
    return Range(from_key(row.first), from_key(row.last))


def _pools(text: str) -> tuple[Range, ...]:
    return tuple(Range(*(to_number(end) for end in pool.split("-"))) for pool in text.split())


def _pools_text(subnet: Subnet) -> str:
    return " ".join(f"{subnet.text(pool.first)}-{subnet.text(pool.last)}" for pool in subnet.pools)
