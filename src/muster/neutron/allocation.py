"""Decides a batch's addresses in one subnet and writes them, within one transaction.

Costs four statements as a rule and O(k) rows for k addresses, whatever is given out already. Statements count: in a
worker with many busy threads each waits for Python's lock, while the subnet's lock is held.

Ports that the driver's tables do not know (Neutron ran with another driver meanwhile, say) keep their addresses by the
key of Neutron's own table. When a claim meets one, the address is noted (`give_back`), and the allocator has
claims compared with that table beforehand for a while (`Terms.check_ports`): the first to meet another notes them all.
"""

from collections.abc import Callable, Sequence

from msgspec import Struct
from sqlalchemy.engine import Connection

from muster.base.errors import Conflict, Exhausted, Invalid, MusterError, NotFound, Stale
from muster.domain.addresses import SubnetPlan, Taken, in_pools, subtract, to_number
from muster.neutron import store
from muster.neutron.store import Entry, Subnet
from muster.neutron.tables import State

# A batch that meets ports unknown to the driver is decided anew, and more often only if such ports are being made.
_ROUNDS = 5
_SWEPT_AT_ONCE = 500


class Ask(Struct, frozen=True):
    """`count` addresses of the pools, or the one address `number`.

    With `or_fewer`, as many of them as there are, but one at least.
    """

    number: int | None = None
    count: int = 1
    or_fewer: bool = False


class Ages(Struct, frozen=True):
    """After how many seconds goes back what no port came to hold. See `tables.State`."""

    claim_s: float = 60.0
    promise_s: float = 3600.0


class Terms(Struct, frozen=True):
    """What holds for all allocations; `now` in seconds since 1970. `fits(cidr, address)`: is it a host's."""

    fits: Callable[[str, str], bool]
    now: float
    rest_s: float = 0.0
    ages: Ages = Ages()
    sweep: bool = False  # take back first what dead processes left, also when there is plenty
    check_ports: bool = False  # compare with Neutron's own table before anything is given


class Mark(Struct, frozen=True):
    """What is written with each address: CLAIMED for a batch; HELD or PROMISED within a transaction of Neutron's."""

    state: State
    claim: str | None = None
    port_id: str | None = None


Outcome = tuple[str, ...] | MusterError


def allocate(connection: Connection, subnet_id: str, asks: Sequence[Ask], mark: Mark, terms: Terms) -> list[Outcome]:
    """Give each what it asks for; one's error never fails another.

    An outcome is the addresses in text, or Conflict (another has it), Invalid (no host's address in this subnet) or
    Exhausted. Raises NotFound for a subnet that Neutron does not have, Stale when the picture changed meanwhile.
    """
    subnet = store.lock_subnet(connection, subnet_id) or adopt(connection, subnet_id, terms.now)
    if terms.sweep:
        sweep(connection, subnet, terms.now, terms.ages)
        store.forget_outside(connection, subnet)
    for _ in range(_ROUNDS):
        batch = _Batch(connection, subnet, asks, terms)
        # Those who ask by name first: else a neighbour in the batch could get their address by chance. Those who take
        # what there is last: they may take all of it.
        order = sorted(range(len(asks)), key=lambda index: (asks[index].number is None, asks[index].or_fewer))
        served = {index: batch.serve(asks[index]) for index in order}
        if not (terms.check_ports and store.with_ports(connection, subnet, batch.numbers())):
            batch.write(mark)
            return [_as_text(subnet, served[index]) for index in range(len(asks))]
        note_unknown(connection, subnet, terms.now)
    raise Stale(f"Subnet {subnet_id}: ports unknown to the driver turn up again and again")


def _as_text(subnet: Subnet, outcome: "list[int] | MusterError") -> Outcome:
    return outcome if isinstance(outcome, MusterError) else tuple(subnet.text(number) for number in outcome)


class _Batch:
    """A picture of what is free, at least as much as the batch can take, and what the batch took of it."""

    def __init__(self, connection: Connection, subnet: Subnet, asks: Sequence[Ask], terms: Terms) -> None:
        self._connection = connection
        self._subnet = subnet
        self._terms = terms
        named = {ask.number for ask in asks if ask.number is not None and self._fits(ask.number)}
        count = sum(ask.count for ask in asks if ask.number is None)
        known = store.states(connection, subnet, named) if named else {}
        ranges = store.ranges_around(connection, subnet.id, named - known.keys())
        rested: list[int] = []
        resting: list[int] = []
        if count:
            wanted = count + len(named)
            rested, lowest = store.read_free(connection, subnet.id, wanted, until=terms.now - terms.rest_s)
            ranges |= set(lowest)
            if len(rested) + sum(one.size for one in ranges) < wanted:  # nearly full
                sweep(connection, subnet, terms.now, terms.ages)
                resting = store.resting(connection, subnet.id, wanted)
        woken = [number for number, state in known.items() if state is State.RESTING]
        held = [number for number, state in known.items() if state is not State.RESTING]
        self._plan = SubnetPlan(sorted(ranges), rested, held, [*resting, *woken])
        self._taken: list[int] = []

    def serve(self, ask: Ask) -> list[int] | MusterError:
        if ask.number is not None:
            return self._specific(ask.number)
        taken: list[int] = []
        for _ in range(ask.count):
            number = self._plan.take_any()
            if number is None and taken and ask.or_fewer:
                break
            if number is None:
                for one in taken:
                    self._plan.put_back(one)
                return Exhausted("No more IP addresses available")
            taken.append(number)
        self._taken += taken
        return taken

    def numbers(self) -> list[int]:
        """All addresses taken so far."""
        return self._taken

    def write(self, mark: Mark) -> None:
        """Make it so."""
        connection, subnet, now = self._connection, self._subnet, self._terms.now
        store.swap_ranges(connection, subnet.id, self._plan.removed, self._plan.added)
        woken = self._plan.reclaimed
        store.wake(connection, subnet, woken, mark.state, mark.claim, now)
        entries = [
            Entry(number, number not in self._plan.outside, mark.state, mark.claim, mark.port_id)
            for number in self._taken
            if number not in woken
        ]
        store.add_addresses(connection, subnet, entries, now)

    def _specific(self, number: int) -> list[int] | MusterError:
        if not self._fits(number):
            return Invalid(f"{self._subnet.text(number)} is no host's address in {self._subnet.cidr}")
        if self._plan.take_given(number) is Taken.HELD:
            return Conflict(f"{self._subnet.text(number)} is given out already")
        self._taken.append(number)
        return [number]

    def _fits(self, number: int) -> bool:
        return self._terms.fits(self._subnet.cidr, self._subnet.text(number))


def adopt(connection: Connection, subnet_id: str, now: float) -> Subnet:
    """Take over a subnet of Neutron that the driver does not know yet, with what its ports hold.

    They count as promised: a port that is just being deleted is there still, and who deletes it sees no row to release.
    Raises NotFound. Costs as much as the subnet has ports, once. Two that adopt at once meet at the primary key.
    """
    subnet = store.neutron_subnet(connection, subnet_id)
    if subnet is None:
        raise NotFound(f"Neutron has no subnet {subnet_id}")
    open_subnet(connection, subnet, store.neutron_allocations(connection, subnet_id), now)
    return subnet


def open_subnet(connection: Connection, subnet: Subnet, holders: dict[int, str], now: float) -> None:
    """Write a new subnet: what is in `holders` (address to port) is promised, the rest of its pools is free."""
    store.add_subnet(connection, subnet)
    store.swap_ranges(connection, subnet.id, [], subtract(subnet.pools, holders))
    entries = [
        Entry(number, in_pools(subnet.pools, number), State.PROMISED, None, port_id)
        for number, port_id in holders.items()
    ]
    store.add_addresses(connection, subnet, entries, now)


def open_or_change_subnet(connection: Connection, subnet: Subnet, now: float) -> None:
    """Write a subnet that is just being made; one that is known already keeps what it has given out.

    Looked for without a lock: in a transaction of Neutron's, MySQL would lock the gap in which others write theirs.
    """
    if not store.is_known(connection, subnet.id):
        open_subnet(connection, subnet, {}, now)
    else:
        change_subnet(connection, subnet, now)


def change_subnet(connection: Connection, subnet: Subnet, now: float) -> None:
    """Set a subnet's CIDR and pools anew; what is given out stays given out. Raises NotFound.

    Costs as much as there are addresses given out. The subnet's row stays locked until the transaction ends.
    """
    was = store.lock_subnet(connection, subnet.id) or adopt(connection, subnet.id, now)
    if (was.cidr, was.pools) == (subnet.cidr, subnet.pools):
        return
    known = store.all_addresses(connection, subnet.id)
    inside = {number for number in known if in_pools(subnet.pools, number)}
    resting = {number for number, (state, _) in known.items() if state is State.RESTING}
    store.forget_resting(connection, subnet, resting - inside)
    for pooled in (True, False):
        changed = [
            number
            for number, (_, before) in known.items()
            if (number in inside) is pooled and before is not pooled and number not in resting - inside
        ]
        store.set_pooled(connection, subnet, changed, pooled=pooled)
    old, new = set(store.all_ranges(connection, subnet.id)), set(subtract(subnet.pools, inside))
    store.swap_ranges(connection, subnet.id, sorted(old - new), sorted(new - old))
    store.change_subnet(connection, subnet)


def note_unknown(connection: Connection, subnet: Subnet, now: float) -> None:
    """Ports of the subnet that the driver does not know, by Neutron's own table: their addresses are noted.

    Costs as much as the subnet has ports.
    """
    states = store.read_states(connection, subnet.id)  # before ports: what is released meanwhile must not be held again
    known = {number for number, state in states.items() if state is not State.RESTING}
    note_ports(connection, subnet, store.neutron_allocations(connection, subnet.id).keys() - known, now)


def note_ports(connection: Connection, subnet: Subnet, numbers: "set[int]", now: float) -> None:
    """Ports that the driver did not know have these addresses: they count as promised, as in `adopt`."""
    known = store.states(connection, subnet, numbers)
    resting = [number for number, state in known.items() if state is State.RESTING]
    store.wake(connection, subnet, resting, State.PROMISED, None, now)
    new = sorted(numbers - known.keys())
    plan = SubnetPlan(sorted(store.ranges_around(connection, subnet.id, new)), [], [])
    for number in new:
        plan.take_given(number)
    store.swap_ranges(connection, subnet.id, plan.removed, plan.added)
    entries = [Entry(number, number not in plan.outside, State.PROMISED, None) for number in new]
    store.add_addresses(connection, subnet, entries, now)


def give_back(connection: Connection, subnet_id: str, ip_addresses: Sequence[str], claim: str, now: float) -> bool:
    """Claims that no port came to hold rest, ready for reuse at once.

    Whether the reason may have been a port that the driver did not know; such addresses are noted.
    """
    given = store.give_back(connection, subnet_id, ip_addresses, claim)
    subnet = store.read_subnet(connection, subnet_id) if given else None  # its rows are ours already
    unknown = store.with_ports(connection, subnet, map(to_number, ip_addresses)) if subnet else set()
    if subnet and unknown:
        note_ports(connection, subnet, unknown, now)
    return bool(unknown)


def sweep(connection: Connection, subnet: Subnet, now: float, ages: Ages) -> int:
    """Take back what no port came to hold: claims whose process died, or was stopped, before the port was committed,
    and promises of requests that failed midway or whose process died. Returns how many came back.

    What is just being written is locked by that transaction, and passed over; what has a port is held. A request that
    outlives its promise finds its address free still, or is refused by the key of Neutron's own table.
    """
    back = 0
    for state, age_s in ((State.CLAIMED, ages.claim_s), (State.PROMISED, ages.promise_s)):
        old = set(store.old_rows(connection, subnet, state, now - age_s, _SWEPT_AT_ONCE))
        held = store.with_ports(connection, subnet, old)
        store.set_state(connection, subnet, held, State.HELD, now)
        store.set_state(connection, subnet, old - held, State.RESTING, 0.0)
        back += len(old - held)
    return back
