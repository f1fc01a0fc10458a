"""The process dies right after each commit of a server's life in turn; the next one brings everything to its end.

A kill at a random moment rarely hits the gap between two transactions that belong together; this hits each of them.
"""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from muster.domain.context import Context
from muster.domain.flavors import FlavorQuery
from muster.domain.network_listing import ListQuery
from muster.domain.reports import HostCapacity
from muster.domain.servers import Asked, Verb
from muster.store.engine import Connection, Database
from tests.audit import ledger

from .beds import Bed, a_cloud, bed_in

HOSTS = 2
SMALL = HostCapacity(vcpus=4, ram_mib=1_000, disk_gib=100)  # two servers each
PLACED, ASKED = 4, 6
REST_S = 300.0


class Mortal:
    """Counts the commits of all databases and lets nothing happen after the last one that it allows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, allowed: int | None) -> None:
        self.commits = 0
        self.died = asyncio.Event()
        self.buried = False
        self._allowed = allowed
        write, read = Database.write, Database.read

        @asynccontextmanager
        async def mortal_write(database: Database) -> AsyncIterator[Connection]:
            await self._go_on()
            async with write(database) as connection:
                await self._go_on()
                yield connection
            self.commits += 1
            if self.commits == self._allowed:
                self.died.set()
            await self._go_on()

        @asynccontextmanager
        async def mortal_read(database: Database, *, one_picture: bool = False) -> AsyncIterator[Connection]:
            await self._go_on()
            async with read(database, one_picture=one_picture) as connection:
                yield connection

        monkeypatch.setattr(Database, "write", mortal_write)
        monkeypatch.setattr(Database, "read", mortal_read)

    async def _go_on(self) -> None:
        if self.buried:
            raise asyncio.CancelledError  # what is being cancelled cleans up without the database
        if self.died.is_set():
            await asyncio.Event().wait()


async def _live(bed: Bed) -> None:
    """Six servers, two of which no host can hold; one is stopped and started; all are deleted."""
    made = await asyncio.gather(*(bed.create(name=f"vm{index}") for index in range(ASKED)))
    found = await bed.settled(ASKED)
    assert sorted(server.status for server in found) == ["ACTIVE"] * PLACED + ["ERROR"] * (ASKED - PLACED)
    running = next(server for server in found if server.status == "ACTIVE")
    for verb in (Verb.STOP, Verb.START):
        await bed.cloud.compute.orders.ask(bed.context, running.id, Asked(verb=verb), "req-3")
        await bed.settled(ASKED)
    await asyncio.gather(*(bed.delete(server.id) for server in made))
    await bed.settled(0)


async def _first_life(folder: Path, bed: Bed, monkeypatch: pytest.MonkeyPatch, allowed: int | None) -> int:
    """Live until the process 'dies'; returns how many commits there were."""
    with monkeypatch.context() as patch:
        async with a_cloud(folder, HOSTS, capacity=SMALL) as cloud:
            mortal = Mortal(patch, allowed)
            living = asyncio.create_task(_live(Bed(cloud, bed.network_id, bed.context)))
            dying = asyncio.create_task(mortal.died.wait())
            await asyncio.wait({living, dying}, return_when=asyncio.FIRST_COMPLETED)
            if living.done():
                await living
            mortal.buried = mortal.died.is_set()
            living.cancel()
            dying.cancel()
            return mortal.commits


async def _second_life(folder: Path, bed: Bed) -> None:
    """Start again: whatever was accepted comes to its end, and can be deleted to the last."""
    path = folder / "muster.db"
    async with a_cloud(folder, HOSTS, capacity=SMALL) as cloud:
        bed = Bed(cloud, bed.network_id, bed.context)
        await _at_rest(path)
        there = ledger.live_servers(path)
        found = await bed.settled(len(there))
        assert {server.status for server in found} <= {"ACTIVE", "SHUTOFF", "ERROR"}
        assert len([server for server in found if server.status != "ERROR"]) <= PLACED
        assert ledger.audit(path) == []
        await asyncio.gather(*(bed.delete(server_id) for server_id in there))
        await bed.settled(0)
        await _at_rest(path)
        assert ledger.audit(path) == []
        assert ledger.given_addresses(path) == {}


async def _at_rest(path: Path) -> None:
    end = time.monotonic() + REST_S
    while waiting := ledger.restless(path):
        assert time.monotonic() < end, f"never at rest: {waiting}"
        await asyncio.sleep(0.02)


async def _prepared(folder: Path) -> Bed:
    async with a_cloud(folder, HOSTS, capacity=SMALL) as cloud:
        return await bed_in(cloud, "10.0.0.0/24")


# What dies does not release its locks.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.timeout(900)
def test_dying_after_any_commit_costs_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made").mkdir()
    bed = asyncio.run(_prepared(tmp_path / "made"))

    def copy(name: str) -> Path:
        return Path(shutil.copytree(tmp_path / "made", tmp_path / name))

    commits = asyncio.run(_first_life(copy("whole"), bed, monkeypatch, None))
    assert commits > 8
    failures: list[Any] = []
    for allowed in range(1, commits):
        folder = copy(str(allowed))
        asyncio.run(_first_life(folder, bed, monkeypatch, allowed))
        try:
            asyncio.run(_second_life(folder, bed))
        except AssertionError as error:
            failures.append((f"after commit {allowed} of {commits}", str(error)[:300]))
    assert not failures, "\n".join(map(str, failures))


async def _first_start(folder: Path, monkeypatch: pytest.MonkeyPatch, allowed: int | None) -> int:
    """Start a cloud in an empty folder until it is up, or 'dies'; returns how many commits there were."""
    with monkeypatch.context() as patch:
        mortal = Mortal(patch, allowed)

        async def start() -> None:
            async with a_cloud(folder, 0):
                pass

        starting = asyncio.create_task(start())
        dying = asyncio.create_task(mortal.died.wait())
        await asyncio.wait({starting, dying}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
        mortal.buried = mortal.died.is_set()
        starting.cancel()
        dying.cancel()
        await asyncio.gather(starting, dying, return_exceptions=True)
        return mortal.commits


async def _whole(folder: Path) -> tuple[Any, ...]:
    """What a fresh cloud has, after another start."""
    async with a_cloud(folder, 0) as cloud:
        admin = Context(user_id=cloud.admin_user_id, project_id=cloud.admin_project_id, roles=frozenset({"admin"}))
        found = await cloud.network.networks.page(admin, ListQuery())
        subnets = await cloud.network.subnets.page(admin, ListQuery())
        flavors = await cloud.compute.flavors.page(admin, FlavorQuery())
    assert ledger.audit(folder / "muster.db") == []
    return (
        [(network.name, network.shared) for network in found],
        [(subnet.name, subnet.cidr) for subnet in subnets],
        sorted(flavor.name for flavor in flavors),
    )


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.timeout(900)
def test_a_first_start_that_dies_after_any_commit_is_made_whole_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def folder(name: str) -> Path:
        (tmp_path / name).mkdir()
        return tmp_path / name

    commits = asyncio.run(_first_start(folder("whole"), monkeypatch, None))
    expected = asyncio.run(_whole(tmp_path / "whole"))
    assert len(expected[0]) == len(expected[1]) == 1
    for allowed in range(1, commits):
        asyncio.run(_first_start(folder(str(allowed)), monkeypatch, allowed))
        assert asyncio.run(_whole(tmp_path / str(allowed))) == expected, f"after commit {allowed} of {commits}"
