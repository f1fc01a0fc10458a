"""Which host gets which server: pure, over a picture of the hosts. Memory decides first, then CPU, then disk."""

import heapq
from collections import defaultdict
from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct

from muster.domain.reports import HostCapacity

# What is ordered by it comes first: memory left, processors left, id. The sign of the numbers is the strategy's.
_Rank = tuple[int, int, str]

# A bridge of Linux has 1,023 ports, and all servers of a host may be on one network.
SERVERS_PER_BRIDGE = 1_000
_ANY_NUMBER = 1_000_000


class Strategy(StrEnum):
    """Which of the hosts that can take a server gets it: the one with the most memory left, or with the least."""

    SPREAD = "spread"
    PACK = "pack"


def servers_limit(*, firewall: bool) -> int:
    """How many servers a host may have, whatever it has of memory; one without real networks any number."""
    return SERVERS_PER_BRIDGE if firewall else _ANY_NUMBER


class Demand(Struct, frozen=True, kw_only=True):
    """What a server takes of a host, or a host has left."""

    vcpus: int = 0
    ram_mib: int = 0
    disk_gib: int = 0
    servers: int = 0

    def plus(self, other: "Demand") -> "Demand":
        """Both together."""
        return Demand(
            vcpus=self.vcpus + other.vcpus,
            ram_mib=self.ram_mib + other.ram_mib,
            disk_gib=self.disk_gib + other.disk_gib,
            servers=self.servers + other.servers,
        )

    def minus(self, other: "Demand") -> "Demand":
        """What is left of this after `other`."""
        return Demand(
            vcpus=self.vcpus - other.vcpus,
            ram_mib=self.ram_mib - other.ram_mib,
            disk_gib=self.disk_gib - other.disk_gib,
            servers=self.servers - other.servers,
        )

    def fits(self, other: "Demand") -> bool:
        """Whether this is contained in `other`."""
        return (
            self.ram_mib <= other.ram_mib
            and self.vcpus <= other.vcpus
            and self.disk_gib <= other.disk_gib
            and self.servers <= other.servers
        )


class Overcommit(Struct, frozen=True, kw_only=True):
    """How much more may be promised than there is; the defaults are what held in practice."""

    ram: float = 1.2
    cpu: float = 2.0
    disk: float = 1.0

    def limits(self, capacity: HostCapacity) -> Demand:
        """What may be claimed of a host."""
        return Demand(
            vcpus=int(capacity.vcpus * self.cpu),
            ram_mib=int(max(0, capacity.ram_mib - capacity.reserved_ram_mib) * self.ram),
            disk_gib=int(capacity.disk_gib * self.disk),
        )


class HostPicture(Struct, frozen=True, kw_only=True):
    """A host as placement sees it."""

    id: str
    hostname: str
    availability_zone: str
    firewall: bool
    free: Demand
    ram_limit_mib: int
    servers: int = 0


class GroupRule(Struct, frozen=True):
    """A server group's policy, and how many of its members each host has already, as of a generation of the group."""

    id: str
    policy: str
    members: dict[str, int]
    max_per_host: int = 1
    generation: int = 0


class Request(Struct, frozen=True, kw_only=True):
    """A server to be placed. `hostname` and `availability_zone` restrict it, `group` adds its policy."""

    server_id: str
    demand: Demand
    availability_zone: str | None = None
    hostname: str | None = None
    group: GroupRule | None = None


class Search(Struct, frozen=True, kw_only=True):
    """Hosts that are enough to place some requests: the best `count` of a zone (None: of any) with `least` left."""

    availability_zone: str | None
    least: Demand
    count: int


def searches(requests: Sequence[Request]) -> list[Search]:
    """What to look for instead of at all hosts; nothing where these must be seen: for a named host, and for a group.

    N servers alike never go to others than the N best hosts that can take one, since a host's rank only falls. Where
    servers are not alike, one for which these have not enough left must be placed among all.
    """
    by_zone: defaultdict[str | None, list[Demand]] = defaultdict(list)
    for request in requests:
        if request.hostname is not None or request.group is not None:
            return []
        by_zone[request.availability_zone].append(request.demand)
    return [
        Search(availability_zone=zone, least=_least(demands), count=len(demands)) for zone, demands in by_zone.items()
    ]


def _least(demands: Sequence[Demand]) -> Demand:
    return Demand(
        vcpus=min(one.vcpus for one in demands),
        ram_mib=min(one.ram_mib for one in demands),
        disk_gib=min(one.disk_gib for one in demands),
        servers=min(one.servers for one in demands),
    )


def place(
    hosts: Sequence[HostPicture], requests: Sequence[Request], strategy: Strategy = Strategy.SPREAD
) -> dict[str, str]:
    """Server ids to host ids, for all that fit; each goes where the strategy says, of the hosts that can take it.

    Requests alike (zone, host and demand) share one heap of the hosts that can take them, so N servers of K kinds cost
    O(N K log hosts), and O(K hosts) once: a host that cannot take a kind is not looked at again for it.
    """
    table = _Table(hosts, strategy)
    placed: dict[str, str] = {}
    for request in requests:
        host_id = table.place(request)
        if host_id is not None:
            placed[request.server_id] = host_id
    return placed


class _Table:
    """Invariant: each heap holds the present rank of every host that can take its kind. What else it holds, ranks of
    earlier states and hosts that have become too full, goes when it comes to the top: what is left only shrinks.
    """

    def __init__(self, hosts: Sequence[HostPicture], strategy: Strategy) -> None:
        self._sign = 1 if strategy is Strategy.PACK else -1
        self._hosts = {host.id: host for host in hosts}
        self._free = {host.id: host.free for host in hosts}
        self._members: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self._heaps: dict[tuple[str | None, str | None, Demand], list[_Rank]] = {}
        self._heaps_of: defaultdict[str, list[list[_Rank]]] = defaultdict(list)

    def place(self, request: Request) -> str | None:
        """The host of one server, whose claim is taken off the picture."""
        host_id = self._best(request) if request.group is None else self._best_in_group(request, request.group)
        if host_id is None:
            return None
        self._free[host_id] = self._free[host_id].minus(request.demand)
        rank = self._rank(host_id)
        for heap in self._heaps_of[host_id]:
            heapq.heappush(heap, rank)
        if request.group is not None:
            members = self._members[request.group.id]
            members[host_id] = members.get(host_id, 0) + 1
        return host_id

    def _best(self, request: Request) -> str | None:
        heap = self._heap(request)
        while heap:
            rank = heap[0]
            host_id = rank[2]
            if rank == self._rank(host_id) and request.demand.fits(self._free[host_id]):
                return host_id
            heapq.heappop(heap)
        return None

    def _best_in_group(self, request: Request, group: GroupRule) -> str | None:
        members = self._members[group.id] or dict(group.members)
        self._members[group.id] = members
        fitting = [host for host in self._allowed(request) if request.demand.fits(self._free[host.id])]
        soft = group.policy.startswith("soft-")
        if group.policy.endswith("anti-affinity"):
            good = [host for host in fitting if members.get(host.id, 0) < group.max_per_host]
            ranked = good or (sorted(fitting, key=lambda host: members.get(host.id, 0))[:1] if soft else [])
        else:
            good = [host for host in fitting if members.get(host.id)]
            ranked = good or (fitting if soft or not members else [])
        return min((self._rank(host.id) for host in ranked), default=(0, 0, None))[2]

    def _heap(self, request: Request) -> list[_Rank]:
        key = (request.availability_zone, request.hostname, request.demand)
        if key not in self._heaps:
            fitting = [host.id for host in self._allowed(request) if request.demand.fits(self._free[host.id])]
            heap = self._heaps[key] = [self._rank(host_id) for host_id in fitting]
            heapq.heapify(heap)
            for host_id in fitting:
                self._heaps_of[host_id].append(heap)
        return self._heaps[key]

    def _allowed(self, request: Request) -> list[HostPicture]:
        return [
            host
            for host in self._hosts.values()
            if request.availability_zone in (None, host.availability_zone)
            and request.hostname in (None, host.hostname, host.id)
        ]

    def _rank(self, host_id: str) -> _Rank:
        free = self._free[host_id]
        return (self._sign * free.ram_mib, self._sign * free.vcpus, host_id)
