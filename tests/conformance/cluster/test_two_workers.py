"""Two workers in two processes over PostgreSQL, etcd and RabbitMQ: the main job, spread out."""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from sqlalchemy import func, select

from muster.cli.cloud import Cloud
from muster.domain.context import Context
from muster.domain.subnets import Pool
from muster.store.addresses import addresses
from muster.store.hosts import hosts
from muster.store.usages import usages
from tests.conformance.cluster.worker import ANSWER, Done, Engines, Order, a_worker, carry_out
from tests.conformance.conftest import Postgres
from tests.engines.etcd import Etcd
from tests.engines.rabbitmq import RabbitMq
from tests.functional.compute.beds import TINY, Bed, bed_in

SERVERS = int(os.environ.get("MUSTER_CLUSTER_SERVERS", "300"))
HOSTS = int(os.environ.get("MUSTER_CLUSTER_HOSTS", "40"))
HANG_S = 100.0


class Second:
    """The other worker's process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def answer(self) -> str:
        assert self.process.stdout is not None
        while line := (await asyncio.wait_for(self.process.stdout.readline(), HANG_S)).decode():
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
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.conformance.cluster.worker", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    try:
        yield Second(process)
        assert process.stdin is not None
        process.stdin.close()
        assert await asyncio.wait_for(process.wait(), HANG_S) == 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def hosts_there(cloud: Cloud, count: int) -> None:
    async with asyncio.timeout(HANG_S):
        while True:
            async with cloud.database.read() as connection:
                if (await connection.execute(select(func.count()).select_from(hosts))).scalar_one() == count:
                    return
            await asyncio.sleep(0.1)


async def test_the_main_job_by_two_workers(
    postgres: Postgres,
    etcd: Etcd,
    rabbitmq: RabbitMq,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    engines = Engines(
        await postgres.create_database(),
        f"etcd://{etcd.endpoints}/cluster",
        f"{rabbitmq.url}?prefix=cluster.",
    )
    first = tmp_path / "first"
    first.mkdir()
    async with a_worker(engines, first, "first", HOSTS) as cloud:
        await hosts_there(cloud, HOSTS)
        pool = Pool("10.0.1.0", _address(SERVERS - 1))
        bed = await bed_in(cloud, "10.0.0.0/16", (pool,))  # exactly as many addresses as servers
        async with second_worker(engines, tmp_path / "second", bed.context) as second:
            await second.answer()
            began = time.monotonic()
            half = SERVERS // 2
            mine, theirs = await asyncio.gather(
                carry_out(bed, Order(bed.network_id, create=SERVERS - half)),
                second.carry_out(Order(bed.network_id, create=half)),
            )
            accepted = time.monotonic() - began
            found = await bed.settled(SERVERS)
            active = time.monotonic() - began
            assert Counter(server.status for server in found) == {"ACTIVE": SERVERS}
            assert {server.id for server in found} == {*mine.made, *theirs.made}
            given = {ip.ip_address for server in found for card in server.interfaces for ip in card.fixed_ips}
            assert len(given) == SERVERS
            assert (mine.again, theirs.again) == (0, 0)
            assert await bed.scalar(select(func.sum(hosts.c.ram_used_mib))) == SERVERS * TINY.ram_mib
            over = hosts.c.ram_used_mib > hosts.c.ram_limit_mib
            assert await bed.scalar(select(func.count()).select_from(hosts).where(over)) == 0
            began = time.monotonic()
            # Each deletes what the other has made.
            await asyncio.gather(
                carry_out(bed, Order(bed.network_id, delete=theirs.made)),
                second.carry_out(Order(bed.network_id, delete=mine.made)),
            )
            await bed.settled(0)
            record_property("accepted_s", round(accepted, 1))
            record_property("active_s", round(active, 1))
            record_property("deleted_s", round(time.monotonic() - began, 1))
            await nothing_is_left(bed)
    assert etcd.leases() == 0


async def nothing_is_left(bed: Bed) -> None:
    assert await bed.scalar(select(func.sum(hosts.c.ram_used_mib))) == 0
    assert await bed.scalar(bed.ports_here) == 0
    here = addresses.c.network_id == bed.network_id
    assert await bed.scalar(select(func.count()).where(here, addresses.c.port_id.is_not(None))) == 0
    assert await bed.scalar(select(func.sum(usages.c.in_use)).where(usages.c.resource == "instances")) == 0


def _address(index: int) -> str:
    return f"10.0.{1 + index // 256}.{index % 256}"
