"""What it costs the control plane when a host asks for everything that it should have."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median

import msgspec

from muster.base.clock import system_clock
from muster.bus.memory import MemoryBus
from muster.cli.hosts import simulated_host
from muster.domain.messages import Desired, Hello, decode, host_topic
from muster.host.hypervisor.sim import DEFAULT_CAPACITY, SimSettings
from muster.services.dispatcher import Dispatcher
from muster.services.host_reports import HostReports
from muster.store.engine import Database


class Resync(msgspec.Struct, frozen=True):
    """Medians of one resync: until the message is on the bus, CPU of this process; and what it told of."""

    servers: int
    missing: int
    wall_ms: float
    cpu_ms: float


class Resyncs:
    """Takes in a simulated host's Hello as a control plane does, over a database that a cloud is using."""

    def __init__(self, database: Database, index: int) -> None:
        identity = simulated_host(index, SimSettings(), "nova").identity
        self.hostname = identity.hostname
        self._hello = Hello(
            **{name: getattr(identity, name) for name in identity.__struct_fields__},
            capacity=DEFAULT_CAPACITY,
        )
        self._bus = MemoryBus()
        dispatcher = Dispatcher(database, self._bus, system_clock)
        self._reports = HostReports(database, self._bus, system_clock, dispatcher, None)  # type: ignore[arg-type]
        self._least: int | None = None

    @classmethod
    @asynccontextmanager
    async def over(cls, database_url: str, index: int) -> AsyncIterator["Resyncs"]:
        """For the simulated host of this number, in the cloud of this database."""
        database = Database(database_url)
        try:
            yield cls(database, index)
        finally:
            await database.close()

    async def measured(self, times: int) -> Resync:
        """That many resyncs, one after the other. What is told of must not become less from call to call."""
        topic = await self._bus.subscribe(host_topic(self._hello.host_id))
        walls, cpus, told = [], [], Desired(host_id="", from_seq=0, to_seq=0)
        for _ in range(times):
            began, cpu = time.monotonic(), time.process_time()
            await self._reports.take([self._hello])
            [body] = await topic.next_batch()
            walls.append(1000 * (time.monotonic() - began))
            cpus.append(1000 * (time.process_time() - cpu))
            message = decode(body)
            assert isinstance(message, Desired)
            told = message
        count = len(told.servers)
        self._least = max(self._least or 0, count)
        return Resync(count, self._least - count, median(walls), median(cpus))
