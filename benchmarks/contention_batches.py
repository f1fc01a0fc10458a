"""Batches with the leanest writes: under one lock each, or from blocks of addresses that a worker has on lease.

The second is the best case of its idea: the blocks are leased before the first request, to all workers alike, and a
batch takes no lock and waits for nobody. A lease is a row per address. A worker whose own run out takes more under the
subnet's lock: free ones, or else others' that lie idle, so that with exactly as many addresses as requests all succeed.
The true owner is who deletes the lease's row: a batch whose leases were taken from it meanwhile is decided again.
"""

from collections.abc import Sequence
from random import Random

from sqlalchemy import Column, MetaData, String, Table, delete, select

from benchmarks.contention_ways import EXHAUSTED, Place, a_port, given
from muster.base.coalescer import Coalescer
from muster.base.errors import Exhausted, MusterError, Stale
from muster.domain.addresses import SubnetPlan, from_key, to_key
from muster.locks.protocol import LockService
from muster.services.redecide import redeciding
from muster.store.addresses import give, read_ranges, swap_ranges
from muster.store.dialects import chunks, insert_rows
from muster.store.engine import Connection, Database
from muster.store.port_batch import insert_ports

metadata = MetaData()
leases = Table(
    "benchmark_leases",
    metadata,
    Column("subnet_id", String(64), primary_key=True),
    Column("address", String(32), primary_key=True),
    Column("worker", String(32), nullable=False),
)


class Batch:
    """One lock and one transaction for all that waits."""

    def __init__(self, database: Database, place: Place, rng: Random, locks: LockService) -> None:
        self._database = database
        self._place = place
        self._rng = rng
        self._locks = locks
        self._coalescer: Coalescer[None, None] = Coalescer(self._make, name="benchmark.batch")
        self.tries = 0

    async def create(self) -> None:
        """See Creator."""
        await self._coalescer.submit(None)

    async def _make(self, items: list[None]) -> list[MusterError | None]:
        self.tries += len(items)
        async with self._locks.hold(f"subnet/{self._place.subnet_id}"), self._database.write() as connection:
            numbers = await take_free(connection, self._place.subnet_id, len(items))
            await write_ports(connection, self._place, self._rng, numbers)
        return outcomes(len(items), len(numbers))


class Blocks:
    """No lock while leased addresses last."""

    def __init__(self, database: Database, place: Place, rng: Random, locks: LockService, name: str) -> None:
        self._database = database
        self._place = place
        self._rng = rng
        self._locks = locks
        self._name = name
        self._mine: list[int] = []
        self._coalescer: Coalescer[None, None] = Coalescer(self._make, name="benchmark.blocks")
        self.tries = 0

    async def prepare(self, count: int) -> None:
        """Lease ahead of time."""
        await self._lease(count)

    async def create(self) -> None:
        """See Creator."""
        await self._coalescer.submit(None)

    async def _make(self, items: list[None]) -> list[MusterError | None]:
        return await redeciding("blocks", lambda: self._decide(len(items)))

    async def _decide(self, count: int) -> list[MusterError | None]:
        self.tries += count
        if len(self._mine) < count:
            await self._lease(count - len(self._mine))
        numbers = self._mine[:count]
        try:
            async with self._database.write() as connection:
                await self._use(connection, numbers)
                await write_ports(connection, self._place, self._rng, numbers)
        except Stale:
            await self._look()
            raise
        self._mine = self._mine[count:]
        return outcomes(count, len(numbers))

    async def _use(self, connection: Connection, numbers: Sequence[int]) -> None:
        for part in chunks(numbers):
            mine = leases.c.address.in_([to_key(number) for number in part]) & (leases.c.worker == self._name)
            statement = delete(leases).where(leases.c.subnet_id == self._place.subnet_id, mine)
            if (await connection.execute(statement)).rowcount != len(part):
                raise Stale("Leased addresses were taken by another worker")

    async def _lease(self, short: int) -> None:
        async with self._locks.hold(f"subnet/{self._place.subnet_id}"), self._database.write() as connection:
            numbers = await take_free(connection, self._place.subnet_id, short)
            if len(numbers) < short:
                numbers += await self._take_idle(connection, short - len(numbers))
            rows = [(self._place.subnet_id, to_key(number), self._name) for number in numbers]
            await insert_rows(connection, leases, ("subnet_id", "address", "worker"), rows)
        self._mine += numbers

    async def _take_idle(self, connection: Connection, short: int) -> list[int]:
        """Leases of others that no transaction is using."""
        here = leases.c.subnet_id == self._place.subnet_id
        idle = (
            select(leases.c.address)
            .where(here, leases.c.worker != self._name)
            .order_by(leases.c.address.desc())  # those that their owner would use last
            .limit(short)
            .with_for_update(skip_locked=True)
        )
        keys = (await connection.execute(idle)).scalars().all()
        await connection.execute(delete(leases).where(here, leases.c.address.in_(keys)))
        return [from_key(key) for key in keys]

    async def _look(self) -> None:
        async with self._database.read() as connection:
            here = (leases.c.subnet_id == self._place.subnet_id) & (leases.c.worker == self._name)
            found = await connection.execute(select(leases.c.address).where(here).order_by(leases.c.address))
            self._mine = [from_key(key) for key in found.scalars()]


async def take_free(connection: Connection, subnet_id: str, count: int) -> list[int]:
    """Up to `count` addresses out of the free ranges. Three statements."""
    plan = SubnetPlan(await read_ranges(connection, subnet_id, count), [], [])
    numbers = [number for _ in range(count) if (number := plan.take_any()) is not None]
    await swap_ranges(connection, subnet_id, plan.removed, plan.added)
    return numbers


async def write_ports(connection: Connection, place: Place, rng: Random, numbers: Sequence[int]) -> None:
    """A port for each address. Two statements."""
    ports = [a_port(place, rng) for _ in numbers]
    await insert_ports(connection, ports)
    await give(connection, [given(place, port, number) for port, number in zip(ports, numbers, strict=True)])


def outcomes(asked: int, made: int) -> list[MusterError | None]:
    """Nothing was left for those that were not made."""
    none = Exhausted("No more IP addresses available on the network.", code=EXHAUSTED)
    return [None] * made + [none] * (asked - made)
