"""A control plane over SQLite without its APIs, and a bus between it and hosts that a test may spoil or read along."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from msgspec import UNSET
from sqlalchemy import select

from muster.api.compute.services import Neighbours
from muster.api.compute.services import assemble as assemble_compute
from muster.api.network.services import assemble as assemble_network
from muster.api.network.services import assemble_batch
from muster.base.clock import system_clock
from muster.base.ids import new_uuid
from muster.bus.memory import MemoryBus
from muster.domain.context import Context
from muster.domain.messages import CONTROL_TOPIC, Hello, Message, decode, encode, host_topic
from muster.domain.networks import NewNetwork
from muster.domain.quotas import COMPUTE_DEFAULTS, NETWORK_DEFAULTS, UNLIMITED
from muster.domain.reports import HostCapacity
from muster.domain.server_listing import ServerQuery
from muster.domain.servers import Asked, FlavorPicture, NewServer, Server, Verb, WantedNic
from muster.domain.subnets import NewSubnet
from muster.locks.tooz import ToozLocks
from muster.services.dispatcher import Dispatcher
from muster.services.host_reports import HostReports
from muster.services.outbox import Outbox
from muster.services.postponed import Postponed
from muster.services.quotas import Quotas
from muster.store.engine import Database
from muster.store.hosts import hosts
from tests.databases import make_tables

PROJECT = "f" * 32
TINY = FlavorPicture(id="1", name="m1.tiny", vcpus=1, ram_mib=512, disk_gib=1)
CAPACITY = HostCapacity(vcpus=64, ram_mib=131_072, disk_gib=2_000)
DEADLINE_S = 300.0  # for hangs only


class Loop:
    """The services, wired; `run` is for the tasks that a process runs."""

    def __init__(self, database: Database, locks: ToozLocks, bus: MemoryBus) -> None:
        self.database, self.bus = database, bus
        quotas = Quotas(dict.fromkeys({**COMPUTE_DEFAULTS, **NETWORK_DEFAULTS}, UNLIMITED))
        self.dispatcher = Dispatcher(database, bus, system_clock)
        self.changes = Outbox(system_clock, self.dispatcher.wake)
        self.batch, self.groups = assemble_batch(database, locks, quotas, self.changes, rng=Random(1))
        self.network = assemble_network(database, self.batch, self.groups)
        neighbours: Any = Neighbours(images=None, networks=self.network.networks, bus=bus)  # type: ignore[arg-type]
        self.compute = assemble_compute(database, self.batch, neighbours)
        self.reports = self.another_reader()
        self.context = Context(user_id="u" * 32, project_id=PROJECT, roles=frozenset({"admin"}))
        self.network_id = ""

    def another_reader(self) -> HostReports:
        """One more of what reads hosts' messages, as another process has it."""
        return HostReports(self.database, self.bus, system_clock, self.dispatcher, self.compute.orders)

    async def make_network(self, cidr: str) -> str:
        """A network with one subnet without DHCP; servers are made on it from now on."""
        draft = NewNetwork(id=new_uuid(), project_id=PROJECT, name="net")
        [network] = await self.network.networks.create(self.context, [draft])
        subnet = NewSubnet(
            id=new_uuid(),
            project_id=PROJECT,
            network_id=network.id,
            ip_version=4,
            cidr=cidr,
            enable_dhcp=False,
            allocation_pools=UNSET,
        )
        await self.network.subnets.create(self.context, [subnet])
        self.network_id = network.id
        return network.id

    def draft(self, zone: str | None = None, **changes: object) -> NewServer:
        values: dict[str, Any] = {
            "id": new_uuid(),
            "project_id": PROJECT,
            "user_id": self.context.user_id,
            "name": "vm",
            "hostname": "vm",
            "flavor": TINY,
            "reservation_id": "r-1",
            "request_id": "req-1",
            "accepted_at": time.time(),
            "availability_zone": zone,
            "nics": (WantedNic(network_id=self.network_id),),
            **changes,
        }
        return NewServer(**values)

    async def create(self, zone: str | None = None, **changes: object) -> Server:
        [server] = await self.compute.creation.create([self.draft(zone, **changes)])
        return server

    async def ask(self, server_id: str, verb: Verb, **details: Any) -> None:
        await self.compute.orders.ask(self.context, server_id, Asked(verb=verb, **details), "req-2")

    async def servers(self) -> list[Server]:
        return await self.compute.servers.page(ServerQuery(limit=10_000))

    async def until(self, holds: Callable[[], Any], what: str, timeout_s: float = DEADLINE_S) -> None:
        end = time.monotonic() + timeout_s
        while not await holds():
            assert time.monotonic() < end, f"{what}: not in time"
            await asyncio.sleep(0.02)

    async def host_ids(self) -> set[str]:
        async with self.database.read() as connection:
            return set((await connection.execute(select(hosts.c.id))).scalars())


@asynccontextmanager
async def a_loop(folder: Path, bus: MemoryBus | None = None, cidr: str = "10.0.0.0/16") -> AsyncIterator[Loop]:
    database = Database(f"sqlite:///{folder / 'loop.db'}")
    await make_tables(database)
    locks = ToozLocks(f"file://{folder / 'locks'}", "loop", folder / "locks" / "tokens")
    await locks.start()
    loop = Loop(database, locks, bus or MemoryBus())
    try:
        await loop.make_network(cidr)
        yield loop
    finally:
        await locks.close()
        await database.close()


class Ear:
    """A host without an agent: says hello, and hears what it is told."""

    def __init__(self, loop: Loop, name: str, *, firewall: bool, host_ip: str = "127.0.0.1") -> None:
        self.loop, self.name, self.id, self.firewall = loop, name, new_uuid(), firewall
        self.host_ip = host_ip
        self.bytes = 0

    def hello(self) -> Hello:
        return Hello(
            host_id=self.id,
            hostname=self.name,
            hypervisor_type="sim",
            hypervisor_version=1,
            capacity=CAPACITY,
            availability_zone=self.name,
            firewall=self.firewall,
            host_ip=self.host_ip,
        )

    async def say_hello(self) -> None:
        await self.loop.reports.take([self.hello()])

    async def hear(self) -> list[Message]:
        """All that has been said to it since the last call, outbox included."""
        while await self.loop.dispatcher.publish():
            pass
        return await self.read()

    async def heard(self) -> list[Message]:
        """What it is told next, when others publish. Raises TimeoutError when that is nothing."""
        async with asyncio.timeout(DEADLINE_S):
            while not (found := await self.read()):
                await asyncio.sleep(0.01)
        return found

    async def read(self) -> list[Message]:
        """As `hear`, without publishing the outbox before."""
        topic = self.loop.bus._topics[host_topic(self.id)]
        bodies = list(topic.messages)
        topic.messages.clear()
        self.bytes += sum(map(len, bodies))
        return [decode(body) for body in bodies]


@asynccontextmanager
async def beside(*works: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """These go on meanwhile, and are cancelled at the end of the block."""
    tasks = [asyncio.create_task(work()) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def only_woken(loop: Loop) -> AsyncIterator[None]:
    """Who publishes runs, and looks once only: what nobody wakes it for after that is not published in time."""
    publish, looked = loop.dispatcher.publish, asyncio.Event()

    async def look() -> int:
        published = await publish()
        looked.set()
        return published

    loop.dispatcher.publish = look  # type: ignore[method-assign]
    loop.dispatcher._sweep_s = 2 * DEADLINE_S
    async with beside(loop.dispatcher.run):
        await looked.wait()
        yield


class Kept(Postponed):
    """Keeps what is to be done later for the test to do."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Callable[[], Awaitable[None]]] = []

    def later(self, after_s: float, what: str, work: Callable[[], Awaitable[None]]) -> None:
        self.kept.append(work)


__all__ = ["CONTROL_TOPIC", "Ear", "Kept", "Loop", "a_loop", "encode", "only_woken"]
