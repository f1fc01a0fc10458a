"""Addresses of subnets: decided for a whole batch under the subnets' locks, made true by the store's primary key.

Callers hold the lock of every subnet they name and pass the connection of the one transaction that also writes the
ports. Nothing here draws twice: a batch that finds its picture outdated raises Stale and is decided again as a whole,
which happens only when a lock was lost.
"""

from collections import defaultdict
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
    plans = await _read_plans(connection, askers, now)
    outcomes = [_serve(asker, plans) for asker in askers]
    given: list[Given] = []
    for asker, outcome in zip(askers, outcomes, strict=True):
        if isinstance(outcome, Granted):
            given += [
                Given(
                    subnet_id=subnet_id,
                    network_id=asker.network_id,
                    port_id=asker.port_id,
                    number=number,
                    ip_version=ip_versions[subnet_id],
                    pooled=number not in plans[subnet_id].outside,
                )
                for subnet_id, number in outcome.addresses
            ]
    for subnet_id, plan in plans.items():
        await store.swap_ranges(connection, subnet_id, plan.removed, plan.added)
        await store.wake(connection, subnet_id, sorted(plan.reclaimed))
    await store.give(connection, given)
    return outcomes


async def _read_plans(connection: Connection, askers: Sequence[Asker], now: float) -> dict[str, SubnetPlan]:
    """A plan per subnet with at least as much in it as the batch can take; what it cannot reach is not read."""
    given: defaultdict[str, set[int]] = defaultdict(set)
    undecided: defaultdict[tuple[str, ...], int] = defaultdict(int)
    for asker in askers:
        for want in asker.wants:
            if want.number is None:
                undecided[want.candidates] += 1
            else:
                given[want.candidates[0]].add(want.number)
    need: defaultdict[str, int] = defaultdict(int)
    pictures: dict[str, _Picture] = {}
    for candidates, count in undecided.items():
        short = count
        for subnet_id in candidates:
            need[subnet_id] += short
            pictures[subnet_id] = await _read_picture(connection, subnet_id, need[subnet_id], given[subnet_id], now)
            short = max(0, need[subnet_id] - pictures[subnet_id].spare)
            if not short:
                break
    for subnet_id in given.keys() - pictures.keys():
        pictures[subnet_id] = await _read_picture(connection, subnet_id, 0, given[subnet_id], now)
    return {subnet_id: SubnetPlan(p.ranges, p.resting, p.held) for subnet_id, p in pictures.items()}


class _Picture(Struct, frozen=True):
    ranges: list[Range]
    resting: list[int]
    held: set[int]
    named: int  # how many of what is here may be taken by name

    @property
    def spare(self) -> int:
        return sum(one.size for one in self.ranges) + len(self.resting) - self.named


async def _read_picture(connection: Connection, subnet_id: str, count: int, named: set[int], now: float) -> _Picture:
    holders = await store.read_holders(connection, subnet_id, named) if named else {}
    held = {number for number, port_id in holders.items() if port_id is not None}
    wanted = count + len(named)
    ranges = set(await store.read_ranges(connection, subnet_id, wanted)) if count else set()
    if named:
        ranges |= set(await store.read_ranges_around(connection, subnet_id, sorted(named - holders.keys())))
    resting = [number for number, port_id in holders.items() if port_id is None]
    short = wanted - sum(one.size for one in ranges)
    if count and short > 0:
        resting = await _rested(connection, subnet_id, short, now, resting)
    return _Picture(sorted(ranges), resting, held, len(named - held))


async def _rested(connection: Connection, subnet_id: str, short: int, now: float, named: Sequence[int]) -> list[int]:
    """Released addresses to reuse: those whose rest is over; when the subnet runs dry, the others too, oldest first."""
    limit = short + len(named)
    rested = await store.read_resting(connection, subnet_id, limit=limit, due_at=now)
    if len(rested) < limit:
        rested = await store.read_resting(connection, subnet_id, limit=limit)
    return list(dict.fromkeys([*rested, *named]))


def _serve(asker: Asker, plans: Mapping[str, SubnetPlan]) -> Granted | MusterError:
    taken: list[tuple[str, int]] = []
    for want in asker.wants:
        outcome = _take(want, plans)
        if isinstance(outcome, MusterError):
            for subnet_id, number in taken:
                plans[subnet_id].put_back(number)
            return outcome
        taken.append(outcome)
    return Granted(tuple(taken))


def _take(want: Want, plans: Mapping[str, SubnetPlan]) -> tuple[str, int] | MusterError:
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
