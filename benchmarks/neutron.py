"""Ports created at once in a stock Neutron: its own IPAM driver and Muster's, side by side in one run.

Both have API workers of their own on one database server, and are loaded in turn. Without more said, on two idle
processors about a quarter of an hour: see `FULL`. Other sizes by the environment: `MUSTER_NEUTRON_PORTS=100,400` (with
plenty of addresses and with exactly enough), `..._DATABASE=mariadb,postgresql`, `..._WORKERS=4`, `..._THREADS=8`,
`..._LOCKS=none|etcd`, `..._LIMIT_S=300` (for one burst; who has no answer then has failed, and the server is started
anew).
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from benchmarks.engines import an_etcd
from benchmarks.load import Burst, burst
from benchmarks.neutron_cloud import DATABASES, HEADERS, PROJECT_ID, VENV, MariaDb, Neutron, PostgreSql
from benchmarks.outcome import Aim, Grid, Outcome, machine
from benchmarks.ports import MadePort
from benchmarks.process import cpu_s
from benchmarks.progress import Teller
from muster.base.errors import Unsupported
from muster.client.http import HttpClient, Request

INTERNAL, MUSTER = "internal", "muster"
PLENTY, EXACT = "plenty", "exactly enough"
YARDSTICK = "Neutron's own IPAM driver (`internal`), same Neutron, workers, database server and client, in turn"
_FIRST = int(IPv4Address("10.64.0.10"))
_OF_ADDRESSES = ("ipam", "ipalloc", "ipaddress")  # in lower case: what a retry names that addresses have caused


class Load(msgspec.Struct, frozen=True):
    """One burst, sent to both drivers."""

    database: str
    count: int
    subnet: str


# Neutron takes 0.1 to 0.2 CPU seconds for a port, whatever gives the address: 2,000 are minutes of two processors.
FULL = (
    Load("mariadb", 800, PLENTY),
    Load("mariadb", 800, EXACT),
    Load("mariadb", 2_000, PLENTY),
    Load("mariadb", 2_000, EXACT),
    Load("postgresql", 800, EXACT),
)


class Sizes(msgspec.Struct, frozen=True):
    """What is run. With one thread a worker serves one request after the other, as in Neutron's example for uWSGI."""

    loads: tuple[Load, ...] = FULL
    sequential: int = 100
    workers: int = 4
    threads: int = 8
    locks: str = "none"
    limit_s: float = 300.0


def sizes(*, quick: bool) -> Sizes:
    """As the environment says. Raises Unsupported for a database that is not known."""

    def said(name: str) -> str:
        return os.environ.get(f"MUSTER_NEUTRON_{name}", "")

    asked = Sizes(sequential=6) if quick else Sizes()
    loads = asked.loads
    if quick or said("PORTS") or said("DATABASE"):
        counts = [int(one) for one in (said("PORTS") or ("20" if quick else "800,2000")).split(",")]
        databases = (said("DATABASE") or "mariadb").split(",")
        if not set(databases) <= DATABASES.keys():
            raise Unsupported(f"MUSTER_NEUTRON_DATABASE must be of {', '.join(DATABASES)}")
        loads = tuple(
            Load(database, count, subnet) for database in databases for count in counts for subnet in (PLENTY, EXACT)
        )
    return msgspec.structs.replace(
        asked,
        loads=loads,
        workers=int(said("WORKERS") or asked.workers),
        threads=int(said("THREADS") or asked.threads),
        locks=said("LOCKS") or asked.locks,
        limit_s=float(said("LIMIT_S") or asked.limit_s),
    )


class Run(msgspec.Struct, frozen=True):
    """One burst of one driver. `retries`: requests that Neutron began again; of them `for_addresses`."""

    driver: str
    load: Load
    burst: Burst
    retries: int
    for_addresses: int
    doubled: int
    cpu_s: float

    @property
    def made(self) -> int:
        return self.burst.statuses[201]

    @property
    def refused(self) -> str:
        """How many of each status but 201; 0 stands for no answer within the limit."""
        others = sorted((status, count) for status, count in self.burst.statuses.items() if status != 201)
        return ", ".join(f"{count} x {status or 'no answer'}" for status, count in others) or "0"

    @property
    def row(self) -> list[str | float]:
        spread, load = self.burst.spread, self.load
        return [
            f"{load.count:,}, {load.subnet}, {DATABASES[load.database].kind}", self.driver, self.made, self.refused,
            self.retries, self.for_addresses, self.burst.duration_s, self.made / self.burst.duration_s,
            spread.p50_s, spread.p99_s, 1_000 * self.cpu_s / load.count,
        ]  # fmt: skip


COLUMNS = [
    "ports at once",
    "driver",
    "made",
    "refused",
    "begun again",
    "for an address",
    "wall s",
    "ports/s",
    "p50 s",
    "p99 s",
    "CPU ms/port",
]


def _create(cloud: Neutron, network_id: str) -> Request:
    body = {"port": {"network_id": network_id, "project_id": PROJECT_ID}}
    return Request("POST", f"{cloud.url}/ports", HEADERS, msgspec.json.encode(body))


def _new_network(cloud: Neutron, subnet: str, count: int) -> str:
    if subnet == PLENTY:
        return cloud.new_subnet("10.64.0.0/16")[0]
    pools = [{"start": str(IPv4Address(_FIRST)), "end": str(IPv4Address(_FIRST + count - 1))}]
    return cloud.new_subnet("10.64.0.0/16", allocation_pools=pools)[0]


def _cpu_s(cloud: Neutron, database: MariaDb | PostgreSql) -> float:
    """CPU seconds of the API workers and of the database server."""
    server = database.process.popen.pid
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    return sum(cpu_s(pid) for pid in [server, *map(int, children), *cloud.worker_ids()])


async def _burst(
    client: HttpClient, cloud: Neutron, database: MariaDb | PostgreSql, driver: str, load: Load, size: Sizes
) -> Run:
    network_id = _new_network(cloud, load.subnet, load.count)
    cloud.clear_log()
    before = _cpu_s(cloud, database)
    came = await burst(client, [_create(cloud, network_id) for _ in range(load.count)], size.limit_s)
    used = _cpu_s(cloud, database) - before
    made = [msgspec.json.decode(one.body, type=MadePort) for one in came.answers if one.status == 201]
    given = [one.ip_address for port in made for one in port.port.fixed_ips]
    retries = cloud.retries()
    addresses = [line for line in retries if any(word in line.lower() for word in _OF_ADDRESSES)]
    if came.statuses[0]:  # what still waits would be served within the next burst
        cloud.stop()
        cloud.start(size.threads)
    return Run(driver, load, came, len(retries), len(addresses), len(given) - len(set(given)), used)


async def _sequential(client: HttpClient, clouds: dict[str, Neutron], count: int) -> dict[str, list[float]]:
    """Seconds per creation, one after the other, the drivers in turn."""
    networks = {driver: _new_network(cloud, PLENTY, count) for driver, cloud in clouds.items()}
    taken: dict[str, list[float]] = {driver: [] for driver in clouds}
    for index in range(count + 4):
        for driver, cloud in clouds.items():
            began = time.monotonic()
            answer = await client.send(_create(cloud, networks[driver]), timeout_s=60)
            if answer.status == 201 and index >= 4:  # the first ones are warming up
                taken[driver].append(time.monotonic() - began)
    return taken


@contextmanager
def _clouds(folder: Path, database: MariaDb | PostgreSql, size: Sizes, lock_url: str) -> Iterator[dict[str, Neutron]]:
    clouds: dict[str, Neutron] = {}
    options: dict[str, dict[str, Any]] = {INTERNAL: {}, MUSTER: {"lock_url": lock_url}}
    try:
        for driver, ipam in options.items():
            (folder / driver).mkdir()
            url = database.new_database()
            clouds[driver] = Neutron(folder / driver, url, driver, ipam=ipam, workers=size.workers)
            clouds[driver].migrate()
            clouds[driver].start(size.threads)
        yield clouds
    finally:
        for cloud in clouds.values():
            cloud.stop()


class Found(msgspec.Struct):
    """What has been measured."""

    runs: list[Run] = []
    taken: dict[str, dict[str, list[float]]] = {}  # by database and driver: seconds of one creation


async def run(teller: Teller, quick: bool) -> Outcome:
    """See the module. Raises Unsupported where there is no Neutron."""
    size = sizes(quick=quick)
    if not (VENV / "bin/uwsgi").exists():
        raise Unsupported("There is no Neutron: run scripts/neutron-venv")
    began, before = time.monotonic(), machine()
    found = Found()
    for database in dict.fromkeys(load.database for load in size.loads):
        if size.locks == "etcd":
            async with an_etcd() as etcd:
                await _on(database, teller, size, etcd.url, found)
        else:
            await _on(database, teller, size, "", found)
    return Outcome(
        name="neutron",
        quick=quick,
        yardstick=YARDSTICK,
        machine=before,
        duration_s=time.monotonic() - began,
        grids=[_bursts_grid(found.runs, size), _sequential_grid(found.taken)],
        aims=[*_exact_aims(found.runs), *_speed_aims(found)],
    )


async def _on(kind: str, teller: Teller, size: Sizes, lock_url: str, found: Found) -> None:
    """The loads of one database."""
    loads = [load for load in size.loads if load.database == kind]
    with TemporaryDirectory(prefix="muster-neutron-") as name:
        folder = Path(name)
        os.chmod(name, 0o755)  # PostgreSQL runs as another user than root, and looks in
        database = DATABASES[kind](folder / "database")
        try:
            with _clouds(folder, database, size, lock_url) as clouds:
                async with HttpClient() as client:
                    found.taken[kind] = await _sequential(client, clouds, size.sequential)
                    with teller.steps(f"bursts on {database.kind}", 2 * len(loads)) as step:
                        for load in loads:
                            for driver, cloud in clouds.items():
                                found.runs.append(await _burst(client, cloud, database, driver, load, size))
                                teller.says(" ".join(str(cell) for cell in found.runs[-1].row))
                                step()
        finally:
            database.stop()


def _bursts_grid(runs: list[Run], size: Sizes) -> Grid:
    locks = "etcd's" if size.locks == "etcd" else "the subnet's row"
    title = f"{size.workers} API workers of {size.threads} threads; Muster's lock: {locks}; limit {size.limit_s:g} s"
    return Grid(title, COLUMNS, [one.row for one in runs])


def _sequential_grid(taken: dict[str, dict[str, list[float]]]) -> Grid:
    rows: list[list[str | float]] = [
        [DATABASES[kind].kind, driver, len(times), 1e3 * median(times)]
        for kind, drivers in taken.items()
        for driver, times in drivers.items()
    ]
    return Grid("one after the other", ["database", "driver", "ports", "median ms"], rows)


def _exact_aims(runs: list[Run]) -> list[Aim]:
    ours = [one for one in runs if one.driver == MUSTER]
    again = sum(one.for_addresses for one in ours)
    return [
        Aim(what="Muster: ports not made", value=sum(one.load.count - one.made for one in ours), at_most=0, exact=True),
        Aim(what="Muster: addresses given twice", value=sum(one.doubled for one in ours), at_most=0, exact=True),
        Aim(what="Muster: requests begun again for an address", value=again, at_most=0, exact=True),
    ]


def _speed_aims(found: Found) -> list[Aim]:
    aims = [
        Aim(
            what=f"one after the other, {DATABASES[kind].kind}: median, of internal's",
            value=median(drivers[MUSTER]) / median(drivers[INTERNAL]),
            at_most=1.1,
        )
        for kind, drivers in found.taken.items()
    ]
    for stock, ours in zip(found.runs[::2], found.runs[1::2], strict=True):
        what, mine, its = str(ours.row[0]), ours.burst, stock.burst
        aims += [
            Aim(what=f"{what}: wall time, of internal's", value=_share(mine.duration_s, its.duration_s), at_most=1),
            Aim(what=f"{what}: p99, of internal's", value=_share(mine.spread.p99_s, its.spread.p99_s), at_most=1),
        ]
    return aims


def _share(mine: float, its: float) -> float:
    """Nought where the other has nothing to show: its server gave no answer at all."""
    return mine / its if its else 0.0
