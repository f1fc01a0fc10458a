"""Two workers in two processes over PostgreSQL, etcd and RabbitMQ: the main job, spread out."""

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import func, select

from muster.cli.control_plane import Cloud
from muster.domain.context import Context
from muster.domain.servers import Server
from muster.domain.subnets import Pool
from muster.store.addresses import addresses
from muster.store.hosts import hosts
from muster.store.servers import servers
from muster.store.usages import usages
from tests.commands import HANG_S, started
from tests.conformance.cluster.worker import ANSWER, Done, Engines, Order, a_worker, carry_out
from tests.conformance.locks.conftest import PATIENT as PATIENT_WITH_ETCD
from tests.conformance.locks.test_etcd import no_leases
from tests.engines.etcd import Etcd
from tests.engines.postgres import PATIENT, Postgres
from tests.engines.rabbitmq import PATIENT as PATIENT_WITH_RABBITMQ
from tests.engines.rabbitmq import RabbitMq
from tests.functional.compute.beds import TINY, Bed, bed_in

SERVERS = int(os.environ.get("MUSTER_CLUSTER_SERVERS", "300"))
HOSTS = int(os.environ.get("MUSTER_CLUSTER_HOSTS", "40"))

_names = count()


class Second:
    """The other worker's process."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def answer(self) -> str:
        assert self.process.stdout is not None
        while line := (await asyncio.wait_for(self.process.stdout.readline(), SERVERS * 0.2 + HANG_S)).decode():
            if line.startswith(ANSWER):
                return line.removeprefix(ANSWER)
        raise AssertionError("the other worker has died")

    async def carry_out(self, order: Order) -> Done:
        assert self.process.stdin is not None
        self.process.stdin.write(msgspec.json.encode(order) + b"\n")
        return msgspec.json.decode(await self.answer(), type=Done)


@asynccontextmanager
async def second_worker(engines: Engines, folder: Path, context: Context) -> AsyncIterator[Second]:
    folder.mkdir()
    arguments = (msgspec.json.encode(engines).decode(), str(folder), msgspec.json.encode(context).decode())
    words = (sys.executable, "-m", "tests.conformance.cluster.worker", *arguments)
    async with started(*words, stdin=PIPE, stdout=PIPE, cwd=Path(__file__).parents[3]) as process:
        yield Second(process)
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), HANG_S)


async def hosts_there(cloud: Cloud, count: int) -> None:
    async with asyncio.timeout(HANG_S):
        while True:
            async with cloud.database.read() as connection:
                if (await connection.execute(select(func.count()).select_from(hosts))).scalar_one() == count:
                    return
            await asyncio.sleep(0.1)


@pytest.fixture
async def engines(postgres: Postgres, etcd: Etcd, rabbitmq: RabbitMq) -> Engines:
    """Shared by two workers; whoever dies is noticed within ten seconds."""
    name = f"cluster{next(_names)}"
    database = f"{await postgres.create_database()}&{PATIENT}"
    locks = f"etcd://{etcd.endpoints}/{name}?lease_s=10&{PATIENT_WITH_ETCD}"
    return Engines(database, locks, f"{rabbitmq.url}?prefix={name}.&{PATIENT_WITH_RABBITMQ}")


@asynccontextmanager
async def two_workers(engines: Engines, folder: Path) -> AsyncIterator[tuple[Bed, Second]]:
    """One in this process, which has the hosts too, and one in a process of its own; exactly SERVERS addresses."""
    first = folder / "first"
    first.mkdir()
    async with a_worker(engines, first, "first", HOSTS) as cloud:
        await hosts_there(cloud, HOSTS)
        bed = await bed_in(cloud, "10.0.0.0/16", (Pool("10.0.1.0", _address(SERVERS - 1)),))
        async with second_worker(engines, folder / "second", bed.context) as second:
            await second.answer()
            yield bed, second


async def test_the_main_job_by_two_workers(
    engines: Engines, etcd: Etcd, tmp_path: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    async with two_workers(engines, tmp_path) as (bed, second):
        began = time.monotonic()
        half = SERVERS // 2
        mine, theirs = await asyncio.gather(
            carry_out(bed, Order(bed.network_id, create=SERVERS - half)),
            second.carry_out(Order(bed.network_id, create=half)),
        )
        accepted = time.monotonic() - began
        await at_rest(bed)
        active = time.monotonic() - began
        found = await all_is_right(bed)
        assert {server.id for server in found} == {*mine.made, *theirs.made}
        assert len(found) == SERVERS
        assert (mine.again, theirs.again) == (0, 0)
        began = time.monotonic()
        # Each deletes what the other has made.
        await asyncio.gather(
            carry_out(bed, Order(bed.network_id, delete=theirs.made)),
            second.carry_out(Order(bed.network_id, delete=mine.made)),
        )
        await at_rest(bed)
        record_testsuite_property("batches_decided_again", [mine.decided_again, theirs.decided_again])
        record_testsuite_property("accepted_s", round(accepted, 1))
        record_testsuite_property("active_s", round(active, 1))
        record_testsuite_property("deleted_s", round(time.monotonic() - began, 1))
        assert await all_is_right(bed) == []
    await no_leases(etcd)


async def test_a_worker_is_killed_in_the_middle(engines: Engines, etcd: Etcd, tmp_path: Path) -> None:
    async with two_workers(engines, tmp_path) as (bed, second):
        half = SERVERS // 2
        theirs = asyncio.create_task(second.carry_out(Order(bed.network_id, create=half)))
        mine = asyncio.create_task(carry_out(bed, Order(bed.network_id, create=SERVERS - half)))
        async with asyncio.timeout(HANG_S):
            while not await bed.scalar(select(func.count()).select_from(servers)):
                await asyncio.sleep(0.01)
        second.process.kill()
        done = await mine
        await asyncio.gather(theirs, return_exceptions=True)
        assert await second.process.wait() == -signal.SIGKILL
        await at_rest(bed)
        found = await all_is_right(bed)  # what the dead worker had committed as well
        assert {server.id for server in found} >= set(done.made)
        assert len(done.made) == SERVERS - half
    await no_leases(etcd)


async def all_is_right(bed: Bed) -> list[Server]:
    """All servers: ACTIVE, each with an address of its own; and what is counted anywhere is what they hold."""
    there = await bed.scalar(select(func.count()).select_from(servers).where(servers.c.deleted_at.is_(None)))
    found = await bed.settled(there)
    assert {server.status for server in found} <= {"ACTIVE"}
    given = [ip.ip_address for server in found for card in server.interfaces for ip in card.fixed_ips]
    assert len(set(given)) == len(given) == there
    assert await bed.scalar(select(func.sum(hosts.c.ram_used_mib))) == there * TINY.ram_mib
    over = hosts.c.ram_used_mib > hosts.c.ram_limit_mib
    assert await bed.scalar(select(func.count()).select_from(hosts).where(over)) == 0
    assert await bed.scalar(bed.ports_here) == there
    here = addresses.c.network_id == bed.network_id
    assert await bed.scalar(select(func.count()).where(here, addresses.c.port_id.is_not(None))) == there
    assert await bed.scalar(select(func.sum(usages.c.in_use)).where(usages.c.resource == "instances")) == there
    return found


async def at_rest(bed: Bed) -> None:
    """Wait until no server is on its way: a count, which costs the cloud less to answer than a list."""
    under_way = select(func.count()).where(servers.c.task_state.is_not(None), servers.c.deleted_at.is_(None))
    async with asyncio.timeout(SERVERS * 0.2 + HANG_S):
        while await bed.scalar(under_way):
            await asyncio.sleep(0.2)


def _address(index: int) -> str:
    return f"10.0.{1 + index // 256}.{index % 256}"
