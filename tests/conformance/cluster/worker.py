"""One worker of a cluster, and what it is told to do: a request per line of its input, an answer per line of output."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from muster.base.errors import Transient
from muster.base.metrics import REDECIDED
from muster.cli.cloud import CloudSettings, running
from muster.cli.control_plane import Cloud
from muster.domain.context import Context
from tests.functional.compute.beds import Bed

ANSWER = "answer "
_AGAIN_S = 0.2


class Engines(msgspec.Struct, frozen=True):
    """Where the engines are."""

    database_url: str
    locks_url: str
    bus_url: str


class Order(msgspec.Struct, frozen=True):
    """Make `create` servers on the network, each by a request of its own, and delete those that are named."""

    network_id: str
    create: int = 0
    delete: tuple[str, ...] = ()


class Done(msgspec.Struct, frozen=True):
    """The servers made, how many requests were told to come again, and how many batches were decided again."""

    made: tuple[str, ...] = ()
    again: int = 0
    decided_again: float = 0.0


@asynccontextmanager
async def a_worker(engines: Engines, folder: Path, member: str, sim_hosts: int = 0) -> AsyncIterator[Cloud]:
    settings = CloudSettings(
        folder=folder,
        sim_hosts=sim_hosts,
        member=member,
        database_url=engines.database_url,
        locks_url=engines.locks_url,
        bus_url=engines.bus_url,
        secret="what all workers of this cluster know",
    )
    async with running(settings, "a-password-for-tests") as cloud:
        yield cloud


async def carry_out(bed: Bed, order: Order) -> Done:
    """All of an order's requests at once. A request that gets 503 is sent again, as its user would; others fail."""
    again = 0

    async def make() -> str:
        nonlocal again
        while True:
            try:
                server = await bed.create()
            except Transient as error:
                again += 1
                await asyncio.sleep(error.retry_after_s * _AGAIN_S)
            else:
                return server.id

    async def delete(server_id: str) -> None:
        nonlocal again
        while True:
            try:
                return await bed.delete(server_id)
            except Transient as error:
                again += 1
                await asyncio.sleep(error.retry_after_s * _AGAIN_S)

    made = await asyncio.gather(*(make() for _ in range(order.create)))
    await asyncio.gather(*(delete(server_id) for server_id in order.delete))
    return Done(tuple(made), again, decided_again())


def decided_again() -> float:
    """How many batches of this process were decided again so far."""
    samples = [sample for family in REDECIDED.collect() for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name.endswith("_total"))


async def _serve(engines: Engines, folder: Path, context: bytes) -> None:
    async with a_worker(engines, folder, "second") as cloud:
        sys.stdout.write(ANSWER + "\n")
        sys.stdout.flush()
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = msgspec.json.decode(line, type=Order)
            bed = Bed(cloud, order.network_id, msgspec.json.decode(context, type=Context))
            done = await carry_out(bed, order)
            sys.stdout.write(ANSWER + msgspec.json.encode(done).decode() + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    where = msgspec.json.decode(sys.argv[1], type=Engines)
    asyncio.run(_serve(where, Path(sys.argv[2]), sys.argv[3].encode()))
