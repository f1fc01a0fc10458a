"""One worker process of the experiment: told by lines of JSON what to make, and answers with lines of JSON."""

import argparse
import asyncio
import contextlib
import os
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

import msgspec
import uvloop
from sqlalchemy import text

from benchmarks.contention_batches import Batch, Blocks
from benchmarks.contention_ways import AT_ONCE, RETRIES, Creator, Locking, Muster, Place, Retrying, Way
from benchmarks.process import cpu_s
from muster.api.network.services import assemble, assemble_batch
from muster.base.errors import MusterError
from muster.base.metrics import REDECIDED
from muster.domain.quotas import NETWORK_DEFAULTS, UNLIMITED
from muster.locks.open import open_locks
from muster.locks.protocol import LockService
from muster.locks.tooz import ToozLocks
from muster.services.outbox import Outbox
from muster.services.quotas import Quotas
from muster.store.engine import Database

IN_TIME = "not made in time"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Make `count` ports, all at once, from when the clock (CLOCK_MONOTONIC, one for all processes) says `start_at`.

    `lease` is how many addresses are leased ahead of time, where the way does so.
    """

    way: Way
    place: Place
    count: int
    lease: int
    start_at: float
    limit_s: float


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it: seconds from the start to each port, tries of all, refusals by code, batches decided again."""

    made_after_s: list[float]
    ended_after_s: float
    tries: int
    refused: dict[str, int]
    decided_again: int
    cpu_s: float


class Worker:
    """One process's connections."""

    def __init__(self, name: str, database: Database, locks: LockService, tooz: ToozLocks) -> None:
        self._name = name
        self._database = database
        self._locks = locks
        self._tooz = tooz
        self._rng = Random(name)
        outbox = Outbox(time.time)
        quotas = Quotas(dict.fromkeys(NETWORK_DEFAULTS, UNLIMITED))
        batch, groups = assemble_batch(database, locks, quotas, outbox, rng=self._rng)
        self._ports = assemble(database, batch, groups).ports

    async def warm(self) -> None:
        """All connections of the pool are there before anything is measured."""

        async def connected() -> None:
            async with self._database.read() as connection:
                await connection.execute(text("SELECT pg_sleep(0.3)"))

        await asyncio.gather(*(connected() for _ in range(AT_ONCE)))

    async def carry_out(self, order: Order) -> Done:
        """The order's ports, each by a task of its own."""
        creator = self._creator(order.way, order.place)
        if isinstance(creator, Blocks):
            await creator.prepare(order.lease)
        if order.way is Way.MUSTER_AGAIN:
            await creator.create()
            creator.tries = 0
        made: list[float] = []
        refused: Counter[str] = Counter()

        async def one() -> None:
            try:
                await creator.create()
            except MusterError as error:
                refused[error.code] += 1
            else:
                made.append(time.monotonic() - order.start_at)

        await asyncio.sleep(order.start_at - time.monotonic())
        used, again = cpu_s(os.getpid()), _decided_again()
        tasks = [asyncio.create_task(one()) for _ in range(order.count)]
        _, late = await asyncio.wait(tasks, timeout=order.limit_s)
        used, ended = cpu_s(os.getpid()) - used, time.monotonic() - order.start_at
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                refused[type(error).__name__] += 1
        if late:
            refused[IN_TIME] = len(late)
        return Done(
            made_after_s=made,
            ended_after_s=ended,
            tries=creator.tries,
            refused=dict(refused),
            decided_again=int(_decided_again() - again),
            cpu_s=used,
        )

    def _creator(self, way: Way, place: Place) -> Creator:
        if way in (Way.MUSTER, Way.MUSTER_AGAIN):
            return Muster(self._ports, place)
        if way is Way.BATCH:
            return Batch(self._database, place, self._rng, self._locks)
        if way is Way.BLOCKS:
            return Blocks(self._database, place, self._rng, self._locks, self._name)
        if way is Way.LOCK:
            return Locking(self._database, place, self._rng, self._tooz)
        return Retrying(self._database, place, self._rng, RETRIES[way])


def _decided_again() -> float:
    samples = [sample for family in REDECIDED.collect() for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name.endswith("_total"))


async def run(name: str, folder: Path) -> None:
    """Serve orders until the input ends. The engines' URLs come first: they are no business of the process list."""
    loop = asyncio.get_running_loop()
    database_url, locks_url = (await loop.run_in_executor(None, sys.stdin.readline)).split()
    database = Database(database_url)
    locks = await open_locks(locks_url, name, folder / "tokens")
    tooz = ToozLocks(locks_url.replace("etcd://", "etcd3+http://") + "?api_version=v3", name, folder / "tokens")
    try:
        await tooz.start()
        worker = Worker(name, database, locks, tooz)
        await worker.warm()
        _say(b"ready")
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            _say(msgspec.json.encode(await worker.carry_out(msgspec.json.decode(line, type=Order))))
    finally:
        with contextlib.suppress(MusterError):
            await tooz.close()
        await locks.close()
        await database.close()


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(b"answer " + line + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    told = parser.parse_args()
    uvloop.run(run(told.name, told.folder))
