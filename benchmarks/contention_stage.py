"""The stage of the experiment: engines, worker processes, and a network for each burst. See `contention`."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from random import Random

import msgspec
from sqlalchemy import distinct, func, select

from benchmarks import contention_batches
from benchmarks.contention_ways import Place, Way
from benchmarks.contention_worker import IN_TIME, Done, Order
from benchmarks.engines import Engine, a_postgresql, an_etcd
from benchmarks.outcome import Series
from benchmarks.process import cpu_s
from muster.api.network.services import Services, assemble, assemble_batch
from muster.base.clock import system_clock
from muster.base.errors import Transient
from muster.base.ids import new_uuid
from muster.base.tasks import to_its_end
from muster.bench.figures import spread
from muster.bench.launch import stop
from muster.bench.records import Spread
from muster.domain.addresses import to_number, to_text
from muster.domain.context import Context
from muster.domain.networks import NewNetwork
from muster.domain.quotas import NETWORK_DEFAULTS, UNLIMITED
from muster.domain.subnets import NewSubnet, Pool
from muster.locks.open import open_locks
from muster.services.outbox import Outbox
from muster.services.quotas import Quotas
from muster.store.addresses import addresses
from muster.store.engine import Database
from muster.store.schema import bring_to_head

PLENTY, EXACT = "4 times as many", "exactly as many"
_ADMIN = Context(user_id="admin", project_id="benchmark", roles=frozenset({"admin"}))
_START_S = 120.0
# Workers get their orders so long before they begin.
_AHEAD_S = 0.5
_SAMPLE_S = 0.2


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One way at one size. CPU in seconds; `load` is how many processors all of it kept busy, over time."""

    way: Way
    count: int
    free: str
    made: int
    wall_s: float
    spread: Spread
    tries: int
    decided_again: int
    refused: dict[str, int]
    doubled: int
    workers_cpu_s: float
    database_cpu_s: float
    locks_cpu_s: float
    load: Series

    @property
    def is_whole(self) -> bool:
        """Whether the way came to its end in time."""
        return IN_TIME not in self.refused


class Stage:
    """Engines, workers, and a place to make networks from."""

    def __init__(
        self,
        database: Database,
        services: Services,
        engines: tuple[Engine, Engine],
        workers: Sequence[asyncio.subprocess.Process],
    ) -> None:
        self._database = database
        self._services = services
        self._postgresql, self._etcd = engines
        self._workers = workers

    async def play(self, way: Way, count: int, free: str, limit_s: float) -> Run:
        """One burst on a network of its own."""
        first = len(self._workers) if way is Way.MUSTER_AGAIN else 0
        place = await self._place(first + (4 * count if free == PLENTY else count))
        start_at = time.monotonic() + _AHEAD_S
        shares = _shares(count, len(self._workers))
        for worker, share in zip(self._workers, shares, strict=True):
            lease = share if free == EXACT else 2 * share
            order = Order(way=way, place=place, count=share, lease=lease, start_at=start_at, limit_s=limit_s)
            assert worker.stdin is not None
            worker.stdin.write(msgspec.json.encode(order) + b"\n")
        sampling = asyncio.create_task(self._sample(start_at))
        try:
            await asyncio.sleep(start_at - time.monotonic())
            before = (self._postgresql.cpu_s, self._etcd.cpu_s)
            done = [msgspec.json.decode(await _answer(worker), type=Done) for worker in self._workers]
            after = (self._postgresql.cpu_s, self._etcd.cpu_s)
        finally:
            sampling.cancel()  # also when the benchmark is told to end: its processes are about to go
        times, busy = await sampling
        made = sorted(moment for one in done for moment in one.made_after_s)
        refused: Counter[str] = Counter()
        for one in done:
            refused.update(one.refused)
        return Run(
            way=way,
            count=count,
            free=free,
            made=len(made),
            wall_s=limit_s if IN_TIME in refused else max(one.ended_after_s for one in done),
            spread=spread(made) or Spread(0.0, 0.0, 0.0, 0.0, 0.0),
            tries=sum(one.tries for one in done),
            decided_again=sum(one.decided_again for one in done),
            refused=dict(refused),
            doubled=await self._doubled(place, len(made)),
            workers_cpu_s=sum(one.cpu_s for one in done),
            database_cpu_s=after[0] - before[0],
            locks_cpu_s=after[1] - before[1],
            load=Series(f"{way} {count} {free}", times, busy),
        )

    async def _place(self, free: int) -> Place:
        project_id = _ADMIN.project_id or ""
        draft = NewNetwork(id=new_uuid(), project_id=project_id, name="contended")
        [network] = await self._services.networks.create(_ADMIN, [draft])
        first = to_number("10.128.1.0")
        pool = Pool("10.128.1.0", to_text(first + free - 1, 4))
        subnet = NewSubnet(
            id=new_uuid(),
            project_id=project_id,
            network_id=network.id,
            ip_version=4,
            cidr="10.128.0.0/12",
            gateway_ip=None,
            enable_dhcp=False,
            allocation_pools=(pool,),
        )
        [made] = await self._services.subnets.create(_ADMIN, [subnet])
        return Place(project_id, network.id, made.id, first, first + free - 1)

    async def _sample(self, start_at: float) -> tuple[list[float], list[float]]:
        """How many processors workers and engines kept busy, every so often from the start on, until cancelled."""
        moments: list[float] = []
        used: list[float] = []
        try:
            while True:
                moments.append(time.monotonic() - start_at)
                workers = sum(cpu_s(worker.pid) for worker in self._workers)
                used.append(workers + self._postgresql.cpu_s + self._etcd.cpu_s)
                await asyncio.sleep(_SAMPLE_S)
        except asyncio.CancelledError:
            steps = list(zip(pairwise(moments), pairwise(used), strict=True))
            times = [round(end, 3) for (_, end), _ in steps]
            return times, [round((now - was) / (end - begin), 3) for (begin, end), (was, now) in steps]

    async def _doubled(self, place: Place, made: int) -> int:
        """Addresses that two ports have, and ports said to be made that have none: 0 unless something is broken."""
        async with self._database.read() as connection:
            here = addresses.c.subnet_id == place.subnet_id
            columns = (
                func.count(),
                func.count(distinct(addresses.c.address)),
                func.count(distinct(addresses.c.port_id)),
            )
            rows, numbers, ports = (
                await connection.execute(select(*columns).where(here, addresses.c.port_id.is_not(None)))
            ).one()
        return (rows - numbers) + max(0, made - ports)


@asynccontextmanager
async def staged(folder: Path, workers: int) -> AsyncIterator[Stage]:
    """Engines and workers, all ready, for the time of the block; `folder` is for their logs."""
    async with AsyncExitStack() as stack:
        postgresql = await stack.enter_async_context(a_postgresql())
        etcd = await stack.enter_async_context(an_etcd())
        database = Database(postgresql.url)
        stack.push_async_callback(database.close)
        await bring_to_head(database)
        async with database.alter() as connection:
            await connection.run_sync(contention_batches.metadata.create_all)
        started = [await stack.enter_async_context(_worker(folder, index)) for index in range(workers)]
        for process in started:
            assert process.stdin is not None
            process.stdin.write(f"{postgresql.url} {etcd.url}\n".encode())
        for process in started:
            await _answer(process)
        locks = await open_locks(etcd.url, "conductor", folder / "tokens")
        stack.push_async_callback(locks.close)
        quotas = Quotas(dict.fromkeys(NETWORK_DEFAULTS, UNLIMITED))
        batch, groups = assemble_batch(database, locks, quotas, Outbox(system_clock), rng=Random(1))
        services = assemble(database, batch, groups)
        yield Stage(database, services, (postgresql, etcd), started)


@asynccontextmanager
async def _worker(folder: Path, index: int) -> AsyncIterator[asyncio.subprocess.Process]:
    arguments = ("--name", f"worker{index}", "--folder", str(folder))
    with (folder / f"worker{index}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.contention_worker", *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=1 << 24,  # an answer is one line
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.stdin is not None:
            process.stdin.close()
        await to_its_end(stop(process))


async def _answer(process: asyncio.subprocess.Process) -> bytes:
    """The next answer of a worker. Raises Transient when it has died or says nothing."""
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_START_S):
            while line := await process.stdout.readline():
                if line.startswith(b"answer "):
                    return line.removeprefix(b"answer ")
    except TimeoutError as error:
        raise Transient("a worker of the experiment says nothing") from error
    raise Transient(f"a worker of the experiment ended with status {await process.wait()}")


def _shares(count: int, workers: int) -> list[int]:
    return [count // workers + (index < count % workers) for index in range(workers)]
