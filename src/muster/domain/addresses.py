"""Address arithmetic: which addresses of a subnet to give to whom. Pure; numbers in, numbers out.

Addresses are numbers (an IPv4 address fits 32 bits, an IPv6 address 128). The cost of a plan is that of the addresses
it gives out, whatever the subnet's size and however many are given out already.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from enum import Enum
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from msgspec import Struct

#: How long a released address rests before it is given to another port, unless the subnet has no other.
REST_S = 180.0


class Range(Struct, frozen=True, order=True, gc=False):
    """The addresses from `first` to `last`, both included."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """How many addresses; `len` would overflow on IPv6."""
        return self.last - self.first + 1


class Taken(Enum):
    """Why a given address cannot be had, if it cannot."""

    GIVEN = "given"
    HELD = "held"  # another port has it


def to_key(number: int) -> str:
    """An address as the store keeps it: 32 hexadecimal digits, which sort as the numbers do."""
    return f"{number:032x}"


def from_key(key: str) -> int:
    """The number of a stored address."""
    return int(key, 16)


def to_number(text: str) -> int:
    """The number of an address in text. Raises ValueError."""
    return int(ip_address(text))


def to_text(number: int, ip_version: int) -> str:
    """An address in its canonical text form (RFC 5952 for IPv6)."""
    if ip_version == 4:  # by hand: the library's class takes five times as long, and batches have thousands
        return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return str(IPv6Address(number))


def in_pools(pools: Sequence[Range], number: int) -> bool:
    """Whether one of the pools has the address."""
    return any(pool.first <= number <= pool.last for pool in pools)


def subtract(ranges: Iterable[Range], holes: Iterable[int]) -> list[Range]:
    """The ranges without the addresses in `holes`, in order. Costs O(n log n) in ranges plus holes."""
    points = sorted(set(holes))
    left: list[Range] = []
    for one in sorted(ranges):
        first = one.first
        for point in points[bisect_right(points, one.first - 1) : bisect_right(points, one.last)]:
            if point > first:
                left.append(Range(first, point - 1))
            first = point + 1
        if first <= one.last:
            left.append(Range(first, one.last))
    return left


def default_pools(cidr: str, gateway_ip: str | None) -> list[Range]:
    """The pools of a subnet that names none: all host addresses but the gateway's, as Neutron has them.

    IPv4 leaves out network and broadcast address (not in a /31 or /32); IPv6 leaves out the subnet-router anycast
    address (RFC 4291, 2.6.1). Raises ValueError for what is not a CIDR.
    """
    network = ip_network(cidr)
    first, last = int(network.network_address), int(network.broadcast_address)
    if isinstance(network, IPv4Network) and network.prefixlen < 31:
        first, last = first + 1, last - 1
    if isinstance(network, IPv6Network) and network.prefixlen < 127:
        first += 1
    return subtract([Range(first, last)], [to_number(gateway_ip)] if gateway_ip else [])


def eui64(cidr: str, mac_address: str) -> int:
    """The address that a guest gives itself in an IPv6 subnet by its MAC (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac_address.replace(":", ""))
    identifier = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return int(ip_network(cidr).network_address) | int.from_bytes(identifier, "big")


class SubnetPlan:
    """Decides a batch's addresses in one subnet, from a picture of what is free there.

    `rested` are released addresses whose rest is over, `resting` those whose rest is not, both in the order of reuse;
    `ranges` are free ranges (at least those that the batch can touch), `held` those addresses among the ones asked for
    by name that a port has. Afterwards `removed`, `added`, `reclaimed` and `outside` say what the store must change.

    What has rested comes first: so a subnet never remembers more addresses than were in use at once and rest.
    """

    def __init__(
        self, ranges: Sequence[Range], rested: Sequence[int], held: Iterable[int], resting: Sequence[int] = ()
    ) -> None:
        self._original = frozenset(ranges)
        self._ranges = sorted(ranges, reverse=True)  # the lowest is last, where taking it is cheap
        self._rested = dict.fromkeys(reversed(rested))  # in order; the next one last
        self._resting = dict.fromkeys(number for number in reversed(resting) if number not in self._rested)
        self._held = set(held)
        self._reclaimed: dict[int, dict[int, None]] = {}  # with where each came from
        self.outside: set[int] = set()

    def take_given(self, number: int) -> Taken:
        """Take this very address, from a range, from rest, or (outside the pools) from nowhere. O(log ranges)."""
        if number in self._held:
            return Taken.HELD
        self._held.add(number)
        for queue in (self._rested, self._resting):
            if number in queue:
                del queue[number]
                self._reclaimed[number] = queue
                return Taken.GIVEN
        if not self._cut(number):
            self.outside.add(number)
        return Taken.GIVEN

    def take_any(self) -> int | None:
        """The address that has rested longest, if its rest is over; else the lowest that was never given out; else the
        one that has rested longest; else None. O(1)."""
        if self._rested:
            return self._reclaim(self._rested)
        if self._ranges:
            lowest = self._ranges.pop()
            if lowest.last > lowest.first:
                self._ranges.append(Range(lowest.first + 1, lowest.last))
            self._held.add(lowest.first)
            return lowest.first
        return self._reclaim(self._resting) if self._resting else None

    def take_free(self, count: int) -> list[int]:
        """Up to `count` addresses as `take_any` gives them, but none that still rests. O(count)."""
        taken: list[int] = []
        while len(taken) < count and (self._rested or self._ranges):
            if (number := self.take_any()) is not None:
                taken.append(number)
        return taken

    def leave(self, number: int) -> None:
        """Do not give out this released address."""
        self._rested.pop(number, None)
        self._resting.pop(number, None)

    def put_back(self, number: int) -> None:
        """Undo a take, for a port that cannot have all that it asked for. O(log ranges)."""
        self._held.discard(number)
        if number in self._reclaimed:
            self._reclaimed.pop(number)[number] = None
        elif number in self.outside:
            self.outside.discard(number)
        else:
            self._mend(number)

    @property
    def free(self) -> int:
        """How many `take_free` could take."""
        return len(self._rested) + sum(one.size for one in self._ranges)

    @property
    def reclaimed(self) -> set[int]:
        """Released addresses that are given out again."""
        return set(self._reclaimed)

    @property
    def removed(self) -> list[Range]:
        """Stored ranges that are not any more."""
        return sorted(self._original - set(self._ranges))

    @property
    def added(self) -> list[Range]:
        """Ranges that are new: what is left of the removed ones."""
        return sorted(set(self._ranges) - self._original)

    def _reclaim(self, queue: dict[int, None]) -> int:
        number, _ = queue.popitem()
        self._reclaimed[number] = queue
        self._held.add(number)
        return number

    def _cut(self, number: int) -> bool:
        place = self._place(number)
        if place == len(self._ranges) or self._ranges[place].last < number:
            return False
        one = self._ranges[place]
        pieces = [Range(number + 1, one.last), Range(one.first, number - 1)]
        self._ranges[place : place + 1] = [piece for piece in pieces if piece.first <= piece.last]
        return True

    def _mend(self, number: int) -> None:
        """Make a number part of the ranges again, joined with its neighbours: what failed leaves no splinters."""
        place = self._place(number)
        above = self._ranges[place - 1] if place else None
        below = self._ranges[place] if place < len(self._ranges) else None
        first, last, begin, end = number, number, place, place
        if above is not None and above.first == number + 1:
            last, begin = above.last, place - 1
        if below is not None and below.last == number - 1:
            first, end = below.first, place + 1
        self._ranges[begin:end] = [Range(first, last)]

    def _place(self, number: int) -> int:
        """Where the highest range that begins at or below a number is, or would be."""
        return bisect_left(self._ranges, -number, key=lambda one: -one.first)
