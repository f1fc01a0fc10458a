"""Addresses of subnets: decided for a whole batch under the subnets' locks, made true by the store's primary key.

Callers hold the lock of every subnet they name and pass the connection of the one transaction that also writes the
ports. Nothing here draws twice: a batch that finds its picture outdated raises Stale and is decided again as a whole,
which happens only when a lock was lost.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from msgspec import Struct

from muster.base.errors import Conflict, Exhausted, MusterError
from muster.domain import addresses as arithmetic
from muster.domain.addresses import Range, SubnetPlan, Taken
from muster.domain.port_batch import Want
from muster.store import addresses as store
from muster.store.addresses import Given
from muster.store.engine import Connection


class Asker(Struct, frozen=True):
    """A port and all that it wants; it gets everything or nothing."""

    port_id: str
    network_id: str
    wants: tuple[Want, ...]


class Granted(Struct, frozen=True):
    """The addresses that one port gets: (subnet id, number) in the order of its wants."""

    addresses: tuple[tuple[str, int], ...]


async def allocate(
    connection: Connection, askers: Sequence[Asker], ip_versions: Mapping[str, int], now: float
) -> list[Granted | MusterError]:
    """Give each asker its addresses and write them; one asker's error never fails another.

    `ip_versions` maps subnet ids to 4 or 6. An outcome is Exhausted (code `network.IpAddressGenerationFailure`) when
    no candidate has a free address, Conflict (`network.IpAddressAlreadyAllocated`) when another port has the one asked
    for. Raises Stale when the picture changed meanwhile. Cost: about five statements per subnet, whatever the number
    of askers.
    """
    plans = await read_plans(connection, askers, now)
    outcomes = [serve(asker, plans) for asker in askers]
    await write_plans(connection, plans)
    await store.give(connection, given_by(askers, outcomes, plans, ip_versions))
    return outcomes


def given_by(
    askers: Sequence[Asker],
    outcomes: Sequence[Granted | MusterError],
    plans: Mapping[str, SubnetPlan],
    ip_versions: Mapping[str, int],
) -> list[Given]:
    """What is to be written of what was granted out of the plans."""
    return [
        Given(
            subnet_id=subnet_id,
            network_id=asker.network_id,
            port_id=asker.port_id,
            number=number,
            ip_version=ip_versions[subnet_id],
            pooled=number not in plans[subnet_id].outside,
        )
        for asker, outcome in zip(askers, outcomes, strict=True)
        if isinstance(outcome, Granted)
        for subnet_id, number in outcome.addresses
    ]


async def write_plans(connection: Connection, plans: Mapping[str, SubnetPlan]) -> None:
    """What the plans have taken is free no more. Raises Stale if it was not. Two or three statements per subnet."""
    for subnet_id, plan in plans.items():
        await store.swap_ranges(connection, subnet_id, plan.removed, plan.added)
        await store.wake(connection, subnet_id, sorted(plan.reclaimed))


async def read_plans(connection: Connection, askers: Sequence[Asker], now: float) -> dict[str, SubnetPlan]:
    """A plan per subnet with at least as much in it as the batch can take; what it cannot reach is not read.

    Wants with several candidates look at the next one as soon as those before it may not suffice for all who ask there.
    """
    named: defaultdict[str, set[int]] = defaultdict(set)
    undecided: Counter[tuple[str, ...]] = Counter()
    for asker in askers:
        for want in asker.wants:
            if want.number is None:
                undecided[want.candidates] += 1
            else:
                named[want.candidates[0]].add(want.number)
    reach = dict.fromkeys(undecided, 1)
    pictures: dict[str, _Picture] = {}
    while True:
        need: Counter[str] = Counter(dict.fromkeys(named, 0))
        for candidates, count in undecided.items():
            for subnet_id in candidates[: reach[candidates]]:
                need[subnet_id] += count
        for subnet_id, count in need.items():
            if subnet_id not in pictures or pictures[subnet_id].count < count:
                pictures[subnet_id] = await _read_picture(connection, subnet_id, count, named[subnet_id], now)
        short = [
            candidates
            for candidates in undecided
            if reach[candidates] < len(candidates)
            and all(pictures[subnet_id].spare < need[subnet_id] for subnet_id in candidates[: reach[candidates]])
        ]
        if not short:
            return {subnet_id: SubnetPlan(p.ranges, p.rested, p.held, p.resting) for subnet_id, p in pictures.items()}
        for candidates in short:
            reach[candidates] += 1


class _Picture(Struct, frozen=True, kw_only=True):
    """What is free in a subnet, as far as `count` undecided wants and `named` ones can touch it."""

    count: int
    named: int
    ranges: list[Range]
    rested: list[int]
    resting: list[int]
    held: set[int]

    @property
    def spare(self) -> int:
        """What is here for undecided wants, when all named ones are granted."""
        return sum(one.size for one in self.ranges) + len(self.rested) + len(self.resting) - self.named


async def _read_picture(connection: Connection, subnet_id: str, count: int, named: set[int], now: float) -> _Picture:
    holders = await store.read_holders(connection, subnet_id, named) if named else {}
    held = {number for number, port_id in holders.items() if port_id is not None}
    wanted = count + len(named)
    rested = await store.read_resting(connection, subnet_id, limit=wanted, due_at=now) if count else []
    short = wanted - len(rested) if count else 0
    ranges = set(await store.read_ranges(connection, subnet_id, short)) if short else set()
    if named:
        ranges |= set(await store.read_ranges_around(connection, subnet_id, sorted(named - holders.keys())))
    over = set(rested)
    resting = [number for number, port_id in holders.items() if port_id is None and number not in over]
    if sum(one.size for one in ranges) < short:
        # Nothing else is left: the rest of all others ends early, the longest first.
        released = await store.read_resting(connection, subnet_id, limit=len(rested) + short)
        resting = list(dict.fromkeys([*(number for number in released if number not in over), *resting]))
    return _Picture(
        count=count, named=len(named - held), ranges=sorted(ranges), rested=rested, resting=resting, held=held
    )


def serve(asker: Asker, plans: Mapping[str, SubnetPlan]) -> Granted | MusterError:
    """Take of the plans all that the asker wants, or nothing and say why."""
    taken: list[tuple[str, int]] = []
    for want in asker.wants:
        outcome = take(want, plans)
        if isinstance(outcome, MusterError):
            for subnet_id, number in taken:
                plans[subnet_id].put_back(number)
            return outcome
        taken.append(outcome)
    return Granted(tuple(taken))


def take(want: Want, plans: Mapping[str, SubnetPlan]) -> tuple[str, int] | MusterError:
    """Take one address, (subnet id, number), of the plans."""
    if want.number is not None:
        subnet_id = want.candidates[0]
        if plans[subnet_id].take_given(want.number) is Taken.HELD:
            return Conflict(
                "IP address is already allocated in the subnet.",
                code="network.IpAddressAlreadyAllocated",
                subnet_id=subnet_id,
                number=want.number,
            )
        return subnet_id, want.number
    for subnet_id in want.candidates:
        number = plans[subnet_id].take_any() if subnet_id in plans else None
        if number is not None:
            return subnet_id, number
    return Exhausted("No more IP addresses available on the network.", code="network.IpAddressGenerationFailure")


async def open_pools(connection: Connection, subnet_id: str, pools: Sequence[Range]) -> None:
    """Make all addresses of a new subnet's pools free. One statement."""
    await store.swap_ranges(connection, subnet_id, [], pools)


async def change_pools(connection: Connection, subnet_id: str, pools: Sequence[Range]) -> None:
    """Set a subnet's pools anew; what is given out stays given out, what rests outside the new pools is forgotten.

    Costs as much as there are addresses given out: changing pools is rare.
    """
    given = await store.read_all_given(connection, subnet_id)
    inside = {number for number, _, _ in given if arithmetic.in_pools(pools, number)}
    forgotten = [number for number, port_id, _ in given if port_id is None and number not in inside]
    await store.wake(connection, subnet_id, forgotten)
    held = [(number, pooled) for number, port_id, pooled in given if port_id is not None]
    for pooled in (True, False):
        changed = [number for number, was in held if (number in inside) is pooled and was is not pooled]
        await store.set_pooled(connection, subnet_id, changed, pooled=pooled)
    before = await store.read_all_ranges(connection, subnet_id)
    after = arithmetic.subtract(pools, inside)
    kept = set(before) & set(after)
    await store.swap_ranges(
        connection, subnet_id, [one for one in before if one not in kept], [one for one in after if one not in kept]
    )


async def close_pools(connection: Connection, subnet_id: str) -> None:
    """Forget a subnet's free and resting addresses. Raises Conflict (`network.SubnetInUse`) if a port has one."""
    counts = await store.count_given(connection, [subnet_id])
    if counts.get(subnet_id):
        raise Conflict(
            f"Unable to complete operation on subnet {subnet_id}: "
            "One or more ports have an IP allocation from this subnet.",
            code="network.SubnetInUse",
        )
    await store.forget(connection, subnet_id)
