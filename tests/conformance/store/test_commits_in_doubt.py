"""The connection breaks while COMMIT is on its way: the answer is the truth, and a request that is told to come again
was not carried out."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import func, select

from muster.base.errors import Away, InDoubt
from muster.domain.servers import Asked, Verb
from muster.store import commits, postgresql, usages
from muster.store.engine import Database
from muster.store.servers import servers
from tests.conformance.store.workers import ADMIN, a_network, a_server, workers
from tests.databases import make_tables
from tests.engines.postgres import PATIENT, Postgres
from tests.engines.postgres_proxy import At, CommitProxy

HANG_S = 300.0
TURNS = 25


@pytest.fixture
async def proxy(postgres: Postgres) -> AsyncIterator[CommitProxy]:
    link = CommitProxy(postgres.directory)
    await link.start()
    yield link
    await link.close()


@pytest.fixture
async def direct(postgres: Postgres) -> AsyncIterator[Database]:
    """The database as others see it, over no proxy."""
    opened = Database(await postgres.create_database())
    await make_tables(opened)
    yield opened
    await opened.close()


def _through(proxy: CommitProxy, direct: Database, **settings: float) -> Database:
    name = direct.url.partition("/muster_")[2].partition("?")[0]
    return Database(f"{proxy.url(f'muster_{name}')}?{PATIENT}", **settings)


async def _there(database: Database, key: str) -> bool:
    async with database.read() as connection:
        return bool(await usages.read(connection, [key]))


async def _write(database: Database, key: str) -> bool:
    """Whether it was written, as the caller is told."""
    try:
        async with database.write() as connection:
            await usages.add(connection, {(key, "port"): 1})
    except Away:
        return False
    return True


@pytest.mark.parametrize(
    ("at", "truth"),
    [(At.BEFORE_COMMIT, {False}), (At.AFTER_COMMIT, {True}), (At.WITH_COMMIT, {False, True})],
)
async def test_whoever_asked_is_told_the_truth(proxy: CommitProxy, direct: Database, at: At, truth: set[bool]) -> None:
    database = _through(proxy, direct)
    told = set()
    async with asyncio.timeout(HANG_S):
        for turn in range(TURNS):
            proxy.at = At.NOWHERE
            await _write(database, f"whole {turn}")
            proxy.at = at
            writing = asyncio.create_task(_write(database, f"broken {turn}"))
            while proxy.broken <= turn:
                await asyncio.sleep(0)
            proxy.at = At.NOWHERE  # it can be looked up
            answer = await writing
            assert answer == await _there(direct, f"broken {turn}")
            assert await _there(direct, f"whole {turn}")
            told.add(answer)
    await database.close()
    assert told <= truth


@pytest.mark.parametrize(("at", "truth"), [(At.SILENT_BEFORE, False), (At.SILENT_AFTER, True)])
async def test_a_dead_link_that_nobody_closed(
    proxy: CommitProxy, direct: Database, at: At, truth: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server holds the transaction open as it waits for the COMMIT: it is ended, and what it locked is free."""
    monkeypatch.setattr(postgresql, "_GRACE_S", 0.1)
    monkeypatch.setattr(commits, "_WAIT_MS", 200)
    database = _through(proxy, direct, statement_s=3.0)
    async with asyncio.timeout(HANG_S):
        await _write(database, "first")
        proxy.at = at
        writing = asyncio.create_task(_write(database, "x"))
        while not proxy.broken:
            await asyncio.sleep(0.01)
        proxy.at = At.NOWHERE
        assert await writing is truth
        assert await _there(direct, "x") is truth
        await _write(direct, "x")
    await database.close()


async def test_what_cannot_be_found_out_is_said_so(proxy: CommitProxy, direct: Database) -> None:
    database = _through(proxy, direct, doubt_s=1.0, patience_s=0.2, connect_s=30.0)
    await _write(database, "first")
    proxy.at = At.AFTER_COMMIT
    writing = asyncio.create_task(_write(database, "x"))
    while not proxy.broken:
        await asyncio.sleep(0)
    await proxy.close()  # and nobody gets through any more
    async with asyncio.timeout(HANG_S):
        with pytest.raises(InDoubt, match="look before you ask again"):
            await writing
    await database.close()


class Breaks:
    """Breaks a COMMIT now and then, somewhere."""

    def __init__(self, proxy: CommitProxy) -> None:
        self._proxy = proxy
        self._rng = Random(1)
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        breaks = (At.NOWHERE, At.NOWHERE, At.BEFORE_COMMIT, At.AFTER_COMMIT, At.WITH_COMMIT)
        while True:
            self._proxy.at = self._rng.choice(breaks)
            await asyncio.sleep(self._rng.uniform(0.0, 0.05))

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._proxy.at = At.NOWHERE


async def test_no_server_is_lost_or_doubled(
    proxy: CommitProxy, direct: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every request is answered well, although many a COMMIT of theirs breaks; each made one server."""
    monkeypatch.setattr("muster.services.redecide._PATIENCE_S", HANG_S)  # however often one breaks, it ends well
    rng = Random(2)
    through = _through(proxy, direct)
    async with workers(through, tmp_path) as both, asyncio.timeout(HANG_S):
        network_id = await a_network(both[0])
        breaks = Breaks(proxy)

        async def create(index: int) -> str:
            await asyncio.sleep(rng.uniform(0.0, 1.0))
            [server] = await both[index % 2].creation.create([a_server("p", network_id)])
            return server.id

        made: list[str] = []
        while len(made) < 100 or proxy.broken <= 5:  # on a busy machine many share a COMMIT
            made += await asyncio.gather(*(create(index) for index in range(50)))
        await breaks.end()
        async with direct.read() as connection:
            found = set((await connection.execute(select(servers.c.id))).scalars())
        assert found == set(made)
        assert len(made) == len(found)
        breaks = Breaks(proxy)
        delete = Asked(verb=Verb.DELETE)
        await asyncio.gather(
            *(both[index % 2].orders.ask(ADMIN, server_id, delete, "r") for index, server_id in enumerate(made))
        )
        await breaks.end()
        async with direct.read() as connection:
            left = select(func.count()).where(servers.c.deleted_at.is_(None))
            assert (await connection.execute(left)).scalar_one() == 0
            counted = await usages.read(connection, ["p"])
    assert Counter(counted.values()) == Counter({0: len(counted)})
    await through.close()


async def test_ids_of_old_commits_are_removed(direct: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muster.store.engine._FORGET_EVERY", 5)
    monkeypatch.setattr(commits, "_KEPT_S", 0.0)
    for turn in range(10):
        await _write(direct, str(turn))
    async with direct.read() as connection:
        kept = (await connection.execute(select(func.count()).select_from(commits.commits))).scalar_one()
    assert kept < 5
