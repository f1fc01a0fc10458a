"""Ports created at once in a stock Neutron: its own IPAM driver and Muster's, side by side in one run.

Both have API workers of their own on one database server, and are loaded in turn. Sizes, workers, threads, database and
lock service by the environment: `MUSTER_NEUTRON_PORTS=800,2000`, `..._WORKERS=4`, `..._THREADS=8`,
`..._DATABASE=mariadb`, `..._LOCKS=none|etcd`.
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
PLENTY, EXACT = "plenty free", "exactly as many free"
YARDSTICK = "Neutron's own IPAM driver (`internal`), same Neutron, workers, database server and client, in turn"
# With one thread a worker serves one request after the other, as Neutron's example for uWSGI has it.
_FIRST = int(IPv4Address("10.64.0.10"))


class Sizes(msgspec.Struct, frozen=True):
    """What is run."""

    bursts: tuple[int, ...] = (100, 400)
    sequential: int = 60
    workers: int = 4
    threads: int = 8
    database: str = "mariadb"
    locks: str = "none"


def sizes(*, quick: bool) -> Sizes:
    """As the environment says."""
    said = {name: os.environ.get(f"MUSTER_NEUTRON_{name}", "") for name in ("PORTS", "WORKERS", "THREADS")}
    asked = Sizes(bursts=(20,), sequential=6) if quick else Sizes()
    return msgspec.structs.replace(
        asked,
        bursts=tuple(int(one) for one in said["PORTS"].split(",")) if said["PORTS"] else asked.bursts,
        workers=int(said["WORKERS"] or asked.workers),
        threads=int(said["THREADS"] or asked.threads),
        database=os.environ.get("MUSTER_NEUTRON_DATABASE", asked.database),
        locks=os.environ.get("MUSTER_NEUTRON_LOCKS", asked.locks),
    )


class Run(msgspec.Struct, frozen=True):
    """One burst of one driver."""

    driver: str
    subnet: str
    asked: int
    burst: Burst
    retries: int
    doubled: int
    cpu_s: float

    @property
    def made(self) -> int:
        return self.burst.statuses[201]

    @property
    def row(self) -> list[str | float]:
        spread = self.burst.spread
        return [
            f"{self.asked} {self.subnet}", self.driver, f"{self.made}/{self.asked}", self.retries,
            self.burst.duration_s, self.made / self.burst.duration_s, spread.p50_s, spread.p99_s, spread.max_s,
            1_000 * self.cpu_s / self.asked,
        ]  # fmt: skip


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
    client: HttpClient, cloud: Neutron, database: MariaDb | PostgreSql, driver: str, subnet: str, count: int
) -> Run:
    network_id = _new_network(cloud, subnet, count)
    cloud.clear_log()
    before = _cpu_s(cloud, database)
    came = await burst(client, [_create(cloud, network_id) for _ in range(count)])
    used = _cpu_s(cloud, database) - before
    made = [msgspec.json.decode(one.body, type=MadePort) for one in came.answers if one.status == 201]
    given = [one.ip_address for port in made for one in port.port.fixed_ips]
    return Run(driver, subnet, count, came, len(cloud.retries()), len(given) - len(set(given)), used)


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


async def run(teller: Teller, quick: bool) -> Outcome:
    """See the module. Raises Unsupported where there is no Neutron."""
    size = sizes(quick=quick)
    if not (VENV / "bin/uwsgi").exists():
        raise Unsupported("There is no Neutron: run scripts/neutron-venv")
    if size.locks == "etcd":
        async with an_etcd() as etcd:
            return await _run(teller, size, etcd.url, quick=quick)
    return await _run(teller, size, "", quick=quick)


async def _run(teller: Teller, size: Sizes, lock_url: str, *, quick: bool) -> Outcome:
    began, before = time.monotonic(), machine()
    runs: list[Run] = []
    with TemporaryDirectory(prefix="muster-neutron-") as name:
        folder = Path(name)
        os.chmod(name, 0o755)  # PostgreSQL runs as another user than root, and looks in
        database = DATABASES[size.database](folder / "database")
        try:
            with _clouds(folder, database, size, lock_url) as clouds:
                async with HttpClient() as client:
                    taken = await _sequential(client, clouds, size.sequential)
                    todo = [(count, subnet) for count in size.bursts for subnet in (PLENTY, EXACT)]
                    with teller.steps("bursts", 2 * len(todo)) as step:
                        for count, subnet in todo:
                            for driver, cloud in clouds.items():
                                runs.append(await _burst(client, cloud, database, driver, subnet, count))
                                teller.says(" ".join(str(cell) for cell in runs[-1].row))
                                step()
        finally:
            database.stop()
    locks = "etcd" if lock_url else "the subnet's row"
    return Outcome(
        name="neutron",
        quick=quick,
        yardstick=YARDSTICK,
        machine=before,
        duration_s=time.monotonic() - began,
        grids=[_bursts_grid(runs, size, database.kind, locks), _sequential_grid(taken)],
        aims=[*_exact_aims(runs), *_speed_aims(runs, taken)],
    )


def _bursts_grid(runs: list[Run], size: Sizes, kind: str, locks: str) -> Grid:
    columns = [
        "ports at once",
        "driver",
        "made",
        "retries",
        "wall s",
        "ports/s",
        "p50 s",
        "p99 s",
        "max s",
        "CPU ms/port",
    ]
    title = f"{size.workers} API workers of {size.threads} threads; {kind}; Muster's lock: {locks}"
    return Grid(title, columns, [one.row for one in runs])


def _sequential_grid(taken: dict[str, list[float]]) -> Grid:
    rows: list[list[str | float]] = [[driver, len(times), 1e3 * median(times)] for driver, times in taken.items()]
    return Grid("one after the other", ["driver", "ports", "median ms"], rows)


def _exact_aims(runs: list[Run]) -> list[Aim]:
    ours = [one for one in runs if one.driver == MUSTER]
    return [
        Aim(what="Muster: ports not made", value=sum(one.asked - one.made for one in ours), at_most=0, exact=True),
        Aim(what="Muster: addresses given twice", value=sum(one.doubled for one in ours), at_most=0, exact=True),
        Aim(what="Muster: requests begun again", value=sum(one.retries for one in ours), at_most=0, exact=True),
    ]


def _speed_aims(runs: list[Run], taken: dict[str, list[float]]) -> list[Aim]:
    aims = [
        Aim(
            what="one after the other: median, of internal's",
            value=median(taken[MUSTER]) / median(taken[INTERNAL]),
            at_most=1.1,
        )
    ]
    for stock, ours in zip(runs[::2], runs[1::2], strict=True):
        what = f"{ours.asked} at once, {ours.subnet}"
        aims += [
            Aim(
                what=f"{what}: wall time, of internal's",
                value=ours.burst.duration_s / stock.burst.duration_s,
                at_most=1,
            ),
            Aim(
                what=f"{what}: p99, of internal's", value=ours.burst.spread.p99_s / stock.burst.spread.p99_s, at_most=1
            ),
        ]
    return aims
