"""Ways of giving out addresses under contention, in their leanest form, to be measured beside Muster's own.

What each creation writes is the same: a port and its address, on the disk before it is answered, the pair (subnet,
address) unique. The other ways do nothing besides; Muster's own way is its whole path (quotas, security groups, MAC
addresses, fencing), so the comparison is to its disadvantage. `batch` and `blocks` are in `contention_batches`.

    retry-10-2019, retry-20-2019    read all allocations, pick one of the first 30 free addresses at random, write it
                                    with the port; when another was faster, redo the creation: 10 tries more, 0.1 s
                                    apart; or 20 more, after 0.5 s, doubling to 10 s (Neutron until Rocky, and as tuned)
    retry-10, retry-20              the same with a window of 1,000; retry-20 with jitter is what Neutron does today
    lock                            one Tooz lock (etcd3gw) per port: read, take the first free, write, release
    batch                           one lock of etcd per batch, and the same lean writes as the others
    blocks                          the same writes, but free addresses are leased to workers ahead of time
    muster                          Muster's ports service itself, on a subnet of which no worker has a lease
    muster-again                    the same after each worker has made one port there

Sources of the other ways: neutron/ipam/drivers/neutrondb_ipam/driver.py and neutron_lib/db/api.py.
"""

import asyncio
from collections.abc import Callable, Sequence
from enum import StrEnum
from itertools import islice
from random import Random
from typing import Protocol

import msgspec
from sqlalchemy import select

from muster.base.errors import Conflict, Exhausted
from muster.base.ids import new_uuid
from muster.domain.context import Context
from muster.domain.ports import NewPort, Port
from muster.locks.tooz import ToozLocks
from muster.services.ports import Ports
from muster.store.addresses import Given, give, read_all_given
from muster.store.engine import Connection, Database, Violation
from muster.store.port_batch import insert_ports
from muster.store.subnets import subnets

EXHAUSTED = "network.IpAddressGenerationFailure"
# So many transactions of a worker at once, as connections in its pool; the others wait in a queue.
AT_ONCE = 20
# A MAC address drawn twice is no more than a reason to try again.
_CLASHES = frozenset({"pk_addresses", "uq_ports_network_id_mac_address"})


class Way(StrEnum):
    """The ways, in the order in which they are shown."""

    RETRY_10_2019 = "retry-10-2019"
    RETRY_20_2019 = "retry-20-2019"
    RETRY_10 = "retry-10"
    RETRY_20 = "retry-20"
    LOCK = "lock"
    BATCH = "batch"
    BLOCKS = "blocks"
    MUSTER = "muster"
    MUSTER_AGAIN = "muster-again"


class Place(msgspec.Struct, frozen=True):
    """Where ports are made: one subnet, whose pool is the addresses from `first` to `last`."""

    project_id: str
    network_id: str
    subnet_id: str
    first: int
    last: int


class Creator(Protocol):
    """One way, in one worker process, on one subnet. `tries` counts all tries of all its ports."""

    tries: int

    async def create(self) -> None:
        """Make one port. Raises MusterError."""
        ...


class Retries(msgspec.Struct, frozen=True):
    """How often a creation is redone, the pauses between, and from how many free addresses one is picked."""

    retries: int
    pause_s: float
    window: int
    factor: float = 1.0
    jitter: bool = False
    longest_s: float = 10.0


RETRIES = {
    Way.RETRY_10_2019: Retries(10, 0.1, 30),
    Way.RETRY_20_2019: Retries(20, 0.5, 30, factor=2.0),
    Way.RETRY_10: Retries(10, 0.1, 1_000),
    Way.RETRY_20: Retries(20, 0.5, 1_000, factor=2.0, jitter=True),
}


def a_port(place: Place, rng: Random) -> Port:
    """A port without addresses, as a creation writes it."""
    octets = b"\xfa\x16" + rng.getrandbits(32).to_bytes(4, "big")
    return Port(
        id=new_uuid(),
        project_id=place.project_id,
        network_id=place.network_id,
        name="",
        description="",
        mac_address=":".join(f"{octet:02x}" for octet in octets),
        admin_state_up=True,
        status="DOWN",
        device_id="",
        device_owner="",
        device_position=0,
        port_security_enabled=False,
        allowed_address_pairs=(),
        extra_dhcp_opts=(),
        binding_host_id="",
        binding_vnic_type="normal",
        binding_profile={},
        dns_name="",
        revision=1,
        created_at=0.0,
        updated_at=0.0,
    )


def given(place: Place, port: Port, number: int) -> Given:
    """The row that says so."""
    return Given(subnet_id=place.subnet_id, network_id=place.network_id, port_id=port.id, number=number, ip_version=4)


async def write_port(
    connection: Connection, place: Place, rng: Random, choose: Callable[[Sequence[int]], int], window: int
) -> None:
    """One port with an address from those that this transaction sees free. Raises Exhausted; Violation at a clash."""
    # Neutron locks the subnet's row against its deletion, shared since 2023, so that creations do not wait for it.
    await connection.execute(select(subnets.c.id).where(subnets.c.id == place.subnet_id).with_for_update(read=True))
    taken = {number for number, _, _ in await read_all_given(connection, place.subnet_id)}
    free = list(islice((n for n in range(place.first, place.last + 1) if n not in taken), window))
    if not free:
        raise Exhausted("No more IP addresses available on the network.", code=EXHAUSTED)
    port = a_port(place, rng)
    await insert_ports(connection, [port])
    await give(connection, [given(place, port, choose(free))])


class Retrying:
    """Read, pick, commit; and all anew when another was faster."""

    def __init__(self, database: Database, place: Place, rng: Random, retries: Retries) -> None:
        self._database = database
        self._place = place
        self._rng = rng
        self._retries = retries
        self._turns = asyncio.Semaphore(AT_ONCE)
        self.tries = 0

    async def create(self) -> None:
        """See Creator. Raises Conflict when all tries were in vain."""
        pause_s = self._retries.pause_s
        for _ in range(self._retries.retries + 1):
            self.tries += 1
            try:
                async with self._turns, self._database.write() as connection:
                    await write_port(connection, self._place, self._rng, self._rng.choice, self._retries.window)
            except Violation as error:
                if error.constraint not in _CLASHES:
                    raise
            else:
                return
            await asyncio.sleep(self._rng.uniform(0, pause_s) if self._retries.jitter else pause_s)
            pause_s = min(pause_s * self._retries.factor, self._retries.longest_s)
        raise Conflict("another was faster at each try", code="benchmark.out_of_tries")


class Locking:
    """A lock for each port; within a worker those who wait stand in a queue, so that only one polls etcd."""

    def __init__(self, database: Database, place: Place, rng: Random, locks: ToozLocks) -> None:
        self._database = database
        self._place = place
        self._rng = rng
        self._locks = locks
        self.tries = 0

    async def create(self) -> None:
        """See Creator."""
        async with self._locks.hold(f"subnet/{self._place.subnet_id}"), self._database.write() as connection:
            self.tries += 1
            await write_port(connection, self._place, self._rng, min, 1)


class Muster:
    """Muster's own: the ports service with all that belongs to it."""

    def __init__(self, ports: Ports, place: Place) -> None:
        self._ports = ports
        self._place = place
        self._context = Context(user_id="admin", project_id=place.project_id, roles=frozenset({"admin"}))
        self.tries = 0

    async def create(self) -> None:
        """See Creator. Batches that are decided again are counted by `base.metrics.REDECIDED`."""
        draft = NewPort(id=new_uuid(), project_id=self._place.project_id, network_id=self._place.network_id)
        self.tries += 1
        await self._ports.create(self._context, draft)
