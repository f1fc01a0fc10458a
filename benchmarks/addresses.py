"""A whole /12, given out batch by batch under the subnet's lock: does the last address cost what the first did?

On SQLite, and on PostgreSQL with etcd's locks. Below the ports API, at `services.addresses`: one lock, one transaction
and one commit per batch, all to one port. The run is cut into tenths, and a tenth's rate is that of its median batch: a
neighbour on the machine, or a checkpoint of the database, hits single batches; what grows with the addresses already
given out shifts them all. The CPU seconds of this process and of the database are the second witness.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.engines import Engine, a_postgresql, an_etcd
from benchmarks.outcome import Aim, Grid, Outcome, machine
from benchmarks.progress import Teller
from muster.base.ids import new_uuid
from muster.cli.cloud import CloudSettings, running
from muster.cli.control_plane import Cloud
from muster.domain.context import Context
from muster.domain.networks import NewNetwork
from muster.domain.port_batch import Want
from muster.domain.ports import NewPort
from muster.domain.subnets import NewSubnet
from muster.services.addresses import Asker, Granted, allocate
from muster.store.addresses import count_given

YARDSTICK = "the first tenth of the same run"
SQLITE = "SQLite"
POSTGRESQL = "PostgreSQL, etcd"
TENTHS = 10


class Sizes(msgspec.Struct, frozen=True):
    """A subnet, how many addresses it has, and how many a batch takes."""

    cidr: str = "10.16.0.0/12"
    free: int = (1 << 20) - 2
    batch: int = 5_000

    @property
    def batches(self) -> int:
        """How many it takes until nothing is left; the last one is refused the rest of what it asks for."""
        return -(-self.free // self.batch)


QUICK = Sizes(cidr="10.16.0.0/17", free=(1 << 15) - 2, batch=1_500)


class Batch(msgspec.Struct, frozen=True):
    """What one batch took, in seconds of the clock and of the CPU (this process and the database's)."""

    duration_s: float
    cpu_s: float


class Tenth(msgspec.Struct, frozen=True):
    """Whole batches that follow each other: addresses per second of the median batch, CPU microseconds per address."""

    per_s: float
    cpu_us: float


async def run(teller: Teller, quick: bool) -> Outcome:
    """The whole benchmark."""
    began, where, sizes = time.monotonic(), machine(), QUICK if quick else Sizes()
    subjects: dict[str, _Subject] = {}
    for name in (SQLITE, POSTGRESQL):
        async with _a_cloud(name) as (cloud, database):
            subject = subjects[name] = await _Subject.made(cloud, database, sizes)
            with teller.steps(f"{name}: batches of {sizes.batch:,} addresses", sizes.batches) as step:
                for _ in range(sizes.batches):
                    await subject.take(sizes.batch)
                    step()
            await subject.look()
    return Outcome(
        name="addresses",
        quick=quick,
        yardstick=YARDSTICK,
        machine=where,
        duration_s=time.monotonic() - began,
        grids=[_grid(subjects, sizes)],
        aims=[aim for name, subject in subjects.items() for aim in _aims(name, subject, sizes)],
    )


@asynccontextmanager
async def _a_cloud(name: str) -> AsyncIterator[tuple[Cloud, Engine | None]]:
    """A fresh cloud in this process, and its database if that is a process of its own."""
    password = "a-password-of-no-importance"
    with TemporaryDirectory(prefix="muster-benchmark-") as folder:
        if name == SQLITE:
            async with running(CloudSettings(folder=Path(folder)), password) as cloud:
                yield cloud, None
        else:
            async with a_postgresql() as database, an_etcd() as locks:
                settings = CloudSettings(folder=Path(folder), database_url=database.url, locks_url=locks.url)
                async with running(settings, password) as cloud:
                    yield cloud, database


class _Subject:
    """One subnet, one port that gets everything, and what each batch took."""

    def __init__(self, cloud: Cloud, database: Engine | None, network_id: str, subnet_id: str, port_id: str) -> None:
        self._cloud = cloud
        self._database = database
        self._network_id = network_id
        self._subnet_id = subnet_id
        self._port_id = port_id
        self.batches: list[Batch] = []
        self.numbers: list[int] = []
        self.refused = 0
        self.stored = 0

    @classmethod
    async def made(cls, cloud: Cloud, database: Engine | None, sizes: Sizes) -> "_Subject":
        """A fresh network with one subnet."""
        admin = Context(user_id=cloud.admin_user_id, project_id=cloud.admin_project_id, roles=frozenset({"admin"}))
        project_id = cloud.admin_project_id
        draft = NewNetwork(id=new_uuid(), project_id=project_id, name="large")
        [network] = await cloud.network.networks.create(admin, [draft])
        port = await cloud.network.ports.create(
            admin, NewPort(id=new_uuid(), project_id=project_id, network_id=network.id, fixed_ips=())
        )
        subnet = NewSubnet(
            id=new_uuid(),
            project_id=project_id,
            network_id=network.id,
            ip_version=4,
            cidr=sizes.cidr,
            gateway_ip=None,
            enable_dhcp=False,
        )
        [made] = await cloud.network.subnets.create(admin, [subnet])
        return cls(cloud, database, network.id, made.id, port.id)

    async def take(self, count: int) -> None:
        """One batch."""
        wants = (Want(candidates=(self._subnet_id,)),)
        askers = [Asker(self._port_id, self._network_id, wants) for _ in range(count)]
        batch = self._cloud.network.ports._batch
        used, began = self._cpu_s(), time.monotonic()
        async with batch.transaction([self._network_id]) as work:
            outcomes = await allocate(work.connection, askers, {self._subnet_id: 4}, batch.clock())
        self.batches.append(Batch(time.monotonic() - began, self._cpu_s() - used))
        self.numbers += [outcome.addresses[0][1] for outcome in outcomes if isinstance(outcome, Granted)]
        self.refused += sum(not isinstance(outcome, Granted) for outcome in outcomes)

    def _cpu_s(self) -> float:
        return time.process_time() + (self._database.cpu_s if self._database else 0)

    async def look(self) -> None:
        """Count what the database has in the end."""
        async with self._cloud.database.read() as connection:
            self.stored = (await count_given(connection, [self._subnet_id])).get(self._subnet_id, 0)

    def tenths(self, sizes: Sizes) -> list[Tenth]:
        """The whole batches, cut into ten parts as even as can be."""
        whole = self.batches[: sizes.free // sizes.batch]
        edges = [len(whole) * part // TENTHS for part in range(TENTHS + 1)]
        return [_tenth(whole[first:last], sizes.batch) for first, last in pairwise(edges)]

    def per_s(self, sizes: Sizes) -> float:
        """Addresses per second, from the first to the last."""
        return sizes.free / sum(batch.duration_s for batch in self.batches)


def _tenth(batches: list[Batch], size: int) -> Tenth:
    cpu_us = 1e6 * sum(batch.cpu_s for batch in batches) / (size * len(batches))
    return Tenth(size / median(batch.duration_s for batch in batches), cpu_us)


def _grid(subjects: dict[str, _Subject], sizes: Sizes) -> Grid:
    rows: list[list[str | float]] = []
    for name, subject in subjects.items():
        tenths = subject.tenths(sizes)
        for place, tenth in enumerate(tenths, start=1):
            rows.append([name, str(place), tenth.per_s, tenth.per_s / tenths[0].per_s, tenth.cpu_us])
        rows.append([name, "all", subject.per_s(sizes), "", ""])
    title = f"the {sizes.free:,} addresses of {sizes.cidr}, in batches of {sizes.batch:,}"
    return Grid(title, ["", "tenth", "per s", "of the first", "CPU us each"], rows)


def _aims(name: str, subject: _Subject, sizes: Sizes) -> list[Aim]:
    granted, doubled = len(subject.numbers), len(subject.numbers) - len(set(subject.numbers))
    beyond = sizes.batches * sizes.batch - sizes.free
    tenths = subject.tenths(sizes)
    return [
        Aim(what=f"{name}: addresses granted", value=granted, at_least=sizes.free, exact=True),
        Aim(what=f"{name}: requests refused beyond the last", value=subject.refused, at_least=beyond, exact=True),
        Aim(what=f"{name}: addresses given twice", value=doubled, at_most=0, exact=True),
        Aim(what=f"{name}: granted but not stored", value=granted - subject.stored, at_most=0, exact=True),
        Aim(
            what=f"{name}: the last tenth's rate, of the first's",
            value=tenths[-1].per_s / tenths[0].per_s,
            at_least=0.9,
        ),
        Aim(what=f"{name}: addresses per second", value=subject.per_s(sizes), at_least=50_000),
    ]
