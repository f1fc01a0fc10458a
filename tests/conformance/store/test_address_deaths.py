"""Processes that make and delete ports die at any moment: no address is doubled, none is lost, none leaks."""

import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from muster.base.errors import Exhausted
from muster.base.ids import new_uuid
from muster.domain.addresses import to_number, to_text
from muster.domain.networks import NewNetwork
from muster.domain.ports import NewPort
from muster.domain.subnets import NewSubnet, Pool
from muster.store import addresses as store
from muster.store import ports as port_store
from muster.store.engine import Database
from tests.conformance.locks.conftest import PATIENT

from .address_worker import Task, services, work
from .workers import ADMIN

WORKERS = 3
KILLS = 3
MADE_BETWEEN = 20
FIRST, SIZE = "10.0.0.10", 60
PATIENCE_S = 300.0

# Children come from a process that has imported everything already and does nothing else.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([work.__module__])


class Crew:
    """Workers at work, and the journals of all that ever were."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.journals: list[Path] = []
        self._running: list[multiprocessing.process.BaseProcess] = []

    def start(self) -> None:
        seed = len(self.journals)
        journal = self._task.folder / f"journal{seed}"
        journal.touch()
        self.journals.append(journal)
        fields = {name: getattr(self._task, name) for name in self._task.__struct_fields__}
        process = _processes.Process(target=work, args=(Task(**{**fields, "journal": journal, "seed": seed}),))
        process.start()
        self._running.append(process)

    def kill(self, index: int) -> None:
        process = self._running.pop(index)
        assert process.exitcode is None, "a worker ended by itself"
        process.kill()
        process.join()

    def kill_all(self) -> None:
        while self._running:
            self.kill(0)

    def close(self) -> None:
        for process in self._running:
            process.kill()
            process.join()

    def lines(self) -> list[list[str]]:
        return [line.split() for journal in self.journals for line in journal.read_text().splitlines()]

    def await_made(self, count: int) -> None:
        """Wait until so many more ports were made."""
        wanted = self._made() + count
        end = time.monotonic() + PATIENCE_S
        while self._made() < wanted:
            assert time.monotonic() < end, "nobody makes ports any more"
            assert all(process.exitcode is None for process in self._running), "a worker ended by itself"
            time.sleep(0.02)

    def _made(self) -> int:
        return sum(line[0] == "made" for line in self.lines())


@contextmanager
def _crew(task: Task) -> Iterator[Crew]:
    crew = Crew(task)
    try:
        yield crew
    finally:
        crew.close()


@pytest.fixture
async def task(database: Database, tmp_path: Path, request: pytest.FixtureRequest) -> Task:
    """A network with a small pool, which runs dry all the time."""
    locks_url = f"file://{tmp_path}/locks"
    if not database.is_sqlite:
        locks_url = f"etcd://{request.getfixturevalue('etcd').endpoints}/deaths?lease_s=2&{PATIENT}"
    cloud, locks = await services(database, locks_url, tmp_path, 1_000)
    [network] = await cloud.networks.create(ADMIN, [NewNetwork(id=new_uuid(), project_id="adm")])
    draft = NewSubnet(
        id=new_uuid(),
        project_id="adm",
        network_id=network.id,
        ip_version=4,
        cidr="10.0.0.0/24",
        allocation_pools=(Pool(FIRST, to_text(to_number(FIRST) + SIZE - 1, 4)),),
        enable_dhcp=False,
    )
    await cloud.subnets.create(ADMIN, [draft])
    await locks.close()  # type: ignore[attr-defined]
    return Task(
        database_url=database.url,
        locks_url=locks_url,
        folder=tmp_path,
        journal=tmp_path / "none",
        network_id=network.id,
        first=FIRST,
        seed=0,
    )


async def test_whoever_dies_whenever_every_address_is_in_one_place(database: Database, task: Task) -> None:
    with _crew(task) as crew:
        for _ in range(WORKERS):
            crew.start()
        for index in range(KILLS):
            await asyncio.to_thread(crew.await_made, MADE_BETWEEN)
            crew.kill(index % WORKERS)
            crew.start()
        await asyncio.to_thread(crew.await_made, MADE_BETWEEN)
        crew.kill_all()
        lines = crew.lines()
    ports = await _every_address_is_in_one_place(database, task)
    doubtful = {port_id for word, port_id, *_ in lines if word == "deleting"}
    promised = {port_id: address for word, port_id, *rest in lines if word == "made" for address in rest}
    lost = {port_id for port_id, address in promised.items() if ports.get(port_id) != address} - doubtful
    assert not lost
    assert not {port_id for word, port_id, *_ in lines if word == "deleted"} & ports.keys()
    assert {code for word, code, *_ in lines if word == "refused"} <= {
        "network.IpAddressGenerationFailure",
        "network.IpAddressAlreadyAllocated",
        "muster.transient",
    }
    await _all_that_is_left_can_be_had(database, task, SIZE - len(ports))


async def _every_address_is_in_one_place(database: Database, task: Task) -> dict[str, str]:
    """Checks the whole pool; returns which port has which address."""
    async with database.read() as connection:
        table = store.addresses
        rows = (await connection.execute(table.select())).all()
        [subnet_id] = {row.subnet_id for row in rows}
        free = await store.read_all_ranges(connection, subnet_id)
        there = set((await connection.execute(port_store.ports.select())).scalars())
    numbers = [number for one in free for number in range(one.first, one.last + 1)]
    numbers += [int(row.address, 16) for row in rows]
    assert sorted(numbers) == list(range(to_number(FIRST), to_number(FIRST) + SIZE))
    held = {row.port_id: row.ip_address for row in rows if row.port_id is not None}
    assert len(held) == sum(row.port_id is not None for row in rows)  # one each
    assert held.keys() == there
    return held


async def _all_that_is_left_can_be_had(database: Database, task: Task, left: int) -> None:
    """Also what rests, and whatever a dead worker was about to do with it."""
    cloud, locks = await services(database, task.locks_url, task.folder, 2_000)
    try:
        async with asyncio.timeout(PATIENCE_S):  # a dead holder's lease runs out first
            drafts = [NewPort(id=new_uuid(), project_id="adm", network_id=task.network_id) for _ in range(left)]
            if drafts:
                await cloud.ports.create_many(ADMIN, drafts)
            with pytest.raises(Exhausted):
                await cloud.ports.create(ADMIN, NewPort(id=new_uuid(), project_id="adm", network_id=task.network_id))
    finally:
        await locks.close()  # type: ignore[attr-defined]
