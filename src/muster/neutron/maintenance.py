"""Looking after the driver's tables from outside: what differs from Neutron's own, making it agree, and the way back.

All of it may run while API workers serve, of this driver and of `internal`. Neutron's tables of subnets, pools and
ports' addresses (`ipallocations`) are the truth here; nothing is ever changed in them.
"""

import uuid
from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import column, delete, insert, select, table
from sqlalchemy.engine import Connection

from muster.base.errors import NotFound
from muster.domain.addresses import to_number
from muster.neutron import allocation, store
from muster.neutron.allocation import Ages
from muster.neutron.store import Subnet
from muster.neutron.tables import State

# The tables of Neutron's driver `internal`.
_subnets = table("ipamsubnets", column("id"), column("neutron_subnet_id"))
_pools = table("ipamallocationpools", column("id"), column("ipam_subnet_id"), column("first_ip"), column("last_ip"))
_allocations = table("ipamallocations", column("ipam_subnet_id"), column("ip_address"), column("status"))

_CHUNK = 500


class Report(Struct, frozen=True, kw_only=True):
    """One subnet. `missing`: a port has it and the tables do not say so; `orphaned`: the tables say held, no port.

    `claimed` is what was decided for ports that are not there yet, promises among it.
    """

    subnet_id: str
    cidr: str
    known: bool = True
    ports: int = 0
    held: int = 0
    claimed: int = 0
    resting: int = 0
    free: int = 0
    missing: tuple[str, ...] = ()
    orphaned: tuple[str, ...] = ()
    pools_differ: bool = False

    @property
    def differs(self) -> bool:
        return bool(not self.known or self.missing or self.orphaned or self.pools_differ)


def look(connection: Connection, subnet_id: str) -> Report:
    """How a subnet stands, within a transaction that sees one moment. Six statements. Raises NotFound."""
    truth = _truth(connection, subnet_id)
    ports = store.neutron_allocations(connection, subnet_id).keys()
    known = store.read_subnet(connection, subnet_id)
    if known is None:
        texts = tuple(truth.text(number) for number in sorted(ports))
        return Report(subnet_id=subnet_id, cidr=truth.cidr, known=False, ports=len(ports), missing=texts)
    states = store.read_states(connection, subnet_id)
    held = {number for number, state in states.items() if state is State.HELD}
    promised = {number for number, state in states.items() if state is State.PROMISED}
    held |= promised & ports
    return Report(
        subnet_id=subnet_id,
        cidr=truth.cidr,
        ports=len(ports),
        held=len(held),
        claimed=sum(state is State.CLAIMED for state in states.values()) + len(promised - ports),
        resting=sum(state is State.RESTING for state in states.values()),
        free=sum(one.size for one in store.read_ranges(connection, subnet_id)),
        missing=tuple(truth.text(number) for number in sorted(ports - held)),
        orphaned=tuple(truth.text(number) for number in sorted(held - ports)),
        pools_differ=(known.cidr, known.pools) != (truth.cidr, truth.pools),
    )


def agree(connection: Connection, subnet_id: str, now: float, ages: Ages) -> None:
    """Make the driver's tables of a subnet say what Neutron's say; take it over if it is new. Raises NotFound.

    The subnet's row stays locked until the transaction ends, so allocations wait for it.
    """
    if store.lock_subnet(connection, subnet_id) is None:
        allocation.adopt(connection, subnet_id, now)
        return
    truth = _truth(connection, subnet_id)  # after the lock: who changes pools has it until all of it is committed
    allocation.change_subnet(connection, truth, now)
    allocation.note_unknown(connection, truth, now)
    # What is locked is of a port just being made or deleted. The others are looked at again, now that they are ours.
    locked = set(store.old_rows(connection, truth, State.HELD, now))
    orphaned = locked - store.with_ports(connection, truth, locked)
    store.set_state(connection, truth, orphaned, State.RESTING, now)
    allocation.sweep(connection, truth, now, ages)
    store.forget_outside(connection, truth)


def forget_deleted(connection: Connection) -> list[str]:
    """Remove what is known of subnets that Neutron has not any more; their ids."""
    known = store.known_subnets(connection)  # first: a subnet that is made meanwhile must not be among them
    there = set(store.neutron_subnet_ids(connection))
    gone = [one.id for one in known if one.id not in there]
    for subnet_id in gone:
        store.remove_subnet(connection, subnet_id)
    return gone


class Difference(Struct, frozen=True, kw_only=True):
    """What the tables of `internal` lack or have too much for one subnet."""

    subnet_id: str
    cidr: str
    known: bool
    lacking: tuple[str, ...]
    stale: tuple[str, ...]
    pools_differ: bool

    @property
    def differs(self) -> bool:
        return bool(not self.known or self.lacking or self.stale or self.pools_differ)


def look_at_internal(connection: Connection, subnet_id: str) -> Difference:
    """How the tables of Neutron's own driver stand for a subnet. Five statements. Raises NotFound."""
    truth = _truth(connection, subnet_id)
    internal_id = connection.execute(select(_subnets.c.id).where(_subnets.c.neutron_subnet_id == subnet_id)).scalar()
    has = {
        to_number(row.ip_address)
        for row in connection.execute(
            select(_allocations.c.ip_address).where(_allocations.c.ipam_subnet_id == internal_id)
        )
    }
    ports = set(store.neutron_allocations(connection, subnet_id))  # after it: what comes meanwhile is not stale
    rows = connection.execute(select(_pools.c.first_ip, _pools.c.last_ip).where(_pools.c.ipam_subnet_id == internal_id))
    pools = sorted((to_number(row.first_ip), to_number(row.last_ip)) for row in rows)
    return Difference(
        subnet_id=subnet_id,
        cidr=truth.cidr,
        known=internal_id is not None,
        lacking=tuple(truth.text(number) for number in sorted(ports - has)),
        stale=tuple(truth.text(number) for number in sorted(has - ports)),
        pools_differ=pools != [(pool.first, pool.last) for pool in truth.pools],
    )


def fill_internal(connection: Connection, subnet_id: str) -> None:
    """Make the tables of Neutron's own driver say what ports hold and pools are. Raises NotFound."""
    truth, difference = _truth(connection, subnet_id), look_at_internal(connection, subnet_id)
    internal_id = connection.execute(
        select(_subnets.c.id).where(_subnets.c.neutron_subnet_id == subnet_id)
    ).scalar() or str(uuid.uuid4())
    if not difference.known:
        connection.execute(insert(_subnets).values(id=internal_id, neutron_subnet_id=subnet_id))
    if difference.pools_differ:
        connection.execute(delete(_pools).where(_pools.c.ipam_subnet_id == internal_id))
        rows = [
            {
                "id": str(uuid.uuid4()),
                "ipam_subnet_id": internal_id,
                "first_ip": truth.text(pool.first),
                "last_ip": truth.text(pool.last),
            }
            for pool in truth.pools
        ]
        if rows:
            connection.execute(insert(_pools), rows)
    for part in _chunks(difference.lacking):
        new = [{"ipam_subnet_id": internal_id, "ip_address": one, "status": "ALLOCATED"} for one in part]
        connection.execute(insert(_allocations), new)
    for part in _chunks(difference.stale):
        where = (_allocations.c.ipam_subnet_id == internal_id) & _allocations.c.ip_address.in_(part)
        connection.execute(delete(_allocations).where(where))


def _truth(connection: Connection, subnet_id: str) -> Subnet:
    found = store.neutron_subnet(connection, subnet_id)
    if found is None:
        raise NotFound(f"Neutron has no subnet {subnet_id}")
    return found


def _chunks(items: Sequence[str]) -> list[Sequence[str]]:
    return [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
