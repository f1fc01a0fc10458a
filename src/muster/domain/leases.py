"""Leases: addresses that a process has set aside for the ports it is about to make. Pure.

To everybody else a leased address rests until the lease's end: it is given to others last, and first once the end has
passed. So nothing is lost with its holder, and nobody has to give anything back.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from muster.base.errors import MusterError
from muster.domain.port_batch import NetworkPicture, wants_of
from muster.domain.ports import NewPort

#: Long enough for a burst, short enough to be forgotten soon.
LEASE_S = 30.0
# Beyond what a batch needs it leases as much again for the next one, within these bounds, but no more than this share
# of what it sees free: what lies idle with one is missed by others when a subnet runs dry.
_LEAST_AHEAD = 256
_MOST_AHEAD = 500
_SHARE_AHEAD = 8

#: What is short of more than so many is leased by itself (`services.leases`).
LARGE = 64

#: How many addresses are wanted of the first of these subnets that has one.
Demand = Mapping[tuple[str, ...], int]


class Lease(Struct, frozen=True, gc=False):
    """One address on lease until a moment, which no other lease of it shares."""

    subnet_id: str
    number: int
    until: float


def demand_of(drafts: Iterable[NewPort], networks: Mapping[str, NetworkPicture]) -> Demand | None:
    """What these ports want that may come from leases; None if they must be decided under the subnets' locks.

    So must addresses asked for by name, those that guests give themselves, and subnets that some ports name and others
    only come to. Drafts that will be refused may count or not.
    """
    demand: Counter[tuple[str, ...]] = Counter()
    for draft in drafts:
        network = networks.get(draft.network_id)
        if network is None:
            continue
        if any(subnet.gives_itself for subnet in network.subnets):
            return None
        if any(wanted.ip_address is not None for wanted in draft.fixed_ips or ()):
            return None
        try:
            demand.update(want.candidates for want in wants_of(draft, network, mac_address=""))
        except MusterError:
            continue
    named = [subnet_id for candidates in demand for subnet_id in candidates]
    return demand if len(set(named)) == len(named) else None


def ahead(count: int, free: int) -> int:
    """How many addresses more than `count` to lease where so many are free besides."""
    return min(max(count, _LEAST_AHEAD), _MOST_AHEAD, free // _SHARE_AHEAD)


class Stock:
    """The leases that a process does not use yet, by subnet, in the order in which they were taken."""

    def __init__(self) -> None:
        self._leases: dict[str, dict[int, Lease]] = {}

    def take(self, subnet_ids: Sequence[str], count: int, now: float) -> list[Lease]:
        """Up to `count` leases that are not over, of the first of these subnets that have any: the caller's now."""
        taken: list[Lease] = []
        for subnet_id in subnet_ids:
            leases = self._leases.get(subnet_id, {})
            while leases and len(taken) < count:
                lease = leases.pop(next(iter(leases)))
                if lease.until > now:
                    taken.append(lease)
            if not leases:
                self._leases.pop(subnet_id, None)
        return taken

    def forget(self, subnet_id: str) -> None:
        """The leases in this subnet are nobody's any more, and free when they end."""
        self._leases.pop(subnet_id, None)

    def put(self, leases: Iterable[Lease]) -> None:
        """These are to be had again."""
        for lease in leases:
            self._leases.setdefault(lease.subnet_id, {})[lease.number] = lease
