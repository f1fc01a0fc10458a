"""What addresses refer to is there, whatever transactions race: by SQLite's foreign keys, by PostgreSQL's triggers."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest
from sqlalchemy import Connection, Table, delete, insert, select, text, update

from muster.base.errors import Stale
from muster.base.ids import new_uuid
from muster.store import addresses as store
from muster.store import tables
from muster.store.addresses import Given, addresses
from muster.store.engine import Database, Violation
from muster.store.ports import ports
from muster.store.subnets import subnets
from muster.store.violations import FOREIGN_KEY
from tests.databases import tables_template
from tests.engines.postgres import Postgres

from .test_migrations import _row

HANG_S = 300.0
ONE = "1"  # the id that every row of `everything` has
PORTS = 300
ROUNDS = 40


def _fill(connection: Connection) -> None:
    for table in tables.metadata.sorted_tables:
        if table is not addresses:
            connection.execute(table.insert().values(_row(table)))


@pytest.fixture
async def everything(database: Database) -> Database:
    """A row in every table but `addresses`, each referring to the others by the same id."""
    async with database.write() as connection:
        await connection.run_sync(_fill)
    return database


def _given(number: int = 1, *, subnet_id: str = ONE, port_id: str = ONE) -> Given:
    return Given(subnet_id=subnet_id, network_id=ONE, port_id=port_id, number=number, ip_version=4)


async def _ports(database: Database, count: int) -> list[str]:
    made = [new_uuid() for _ in range(count)]
    rows = [_row(ports) | {"id": port_id, "network_id": ONE, "mac_address": port_id} for port_id in made]
    async with database.write() as connection:
        await connection.execute(insert(ports), rows)
    return made


@pytest.mark.parametrize("wrong", [{"port_id": "none"}, {"subnet_id": "none"}], ids=["port", "subnet"])
async def test_of_many_rows_one_that_refers_to_nothing_is_refused(everything: Database, wrong: dict[str, str]) -> None:
    rows = [_given(number) for number in range(500)]
    with pytest.raises(Violation) as caught:
        async with everything.write() as connection:
            await store.give(connection, [*rows, _given(500, **wrong)])
    assert caught.value.constraint == FOREIGN_KEY
    async with everything.write() as connection:
        assert (await connection.execute(select(addresses))).all() == []
        await store.give(connection, rows)


async def test_a_row_that_is_changed_to_refer_to_nothing_is_refused(everything: Database) -> None:
    async with everything.write() as connection:
        await store.give(connection, [_given()])
    for values in ({"port_id": "none"}, {"subnet_id": "none"}):
        with pytest.raises(Violation):
            async with everything.write() as connection:
                await connection.execute(update(addresses).values(values))
    async with everything.write() as connection:
        await connection.execute(update(addresses).values(port_id=None))  # refers to nothing, and may


@pytest.mark.parametrize("parent", [ports, subnets], ids=["port", "subnet"])
async def test_what_is_referred_to_stays_and_keeps_its_name(everything: Database, parent: Table) -> None:
    async with everything.write() as connection:
        await connection.execute(text("DELETE FROM port_security_groups"))
        await connection.execute(text("DELETE FROM free_ranges"))
        await store.give(connection, [_given()])
    for statement in (delete(parent), update(parent).values(id="another")):
        with pytest.raises(Violation) as caught:
            async with everything.write() as connection:
                await connection.execute(statement)
        assert caught.value.constraint == FOREIGN_KEY
    async with everything.write() as connection:
        await connection.execute(delete(addresses))
        await connection.execute(delete(parent))


async def test_what_was_made_in_the_same_transaction_may_be_referred_to(everything: Database) -> None:
    async with everything.write() as connection:
        rows = [_row(ports) | {"id": name, "network_id": ONE, "mac_address": name} for name in ("x", "y")]
        await connection.execute(insert(ports), rows)
        await store.give(connection, [_given(1, port_id="x"), _given(2, port_id="y")])


@pytest.fixture
async def two(postgres: Postgres) -> AsyncIterator[Database]:
    """The same where two transactions go side by side: SQLite has one writer."""
    opened = Database(await postgres.create_database(await tables_template(postgres)))
    async with opened.write() as connection:
        await connection.run_sync(_fill)
    yield opened
    await opened.close()


async def _is_waiting(task: "asyncio.Task[None]", database: Database) -> None:
    """Return when a transaction waits for another one's row; fail if the task ends before."""
    here = "datname = current_database() AND wait_event_type = 'Lock'"
    query = text(f"SELECT count(*) FROM pg_stat_activity WHERE {here}")
    async with asyncio.timeout(HANG_S):
        while True:
            assert not task.done()
            async with database.read() as connection:
                if (await connection.execute(query)).scalar_one():
                    return
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(("parent", "by"), [(ports, "insert"), (ports, "update"), (subnets, "insert")])
async def test_who_removes_waits_for_who_refers_and_is_refused(two: Database, parent: Table, by: str) -> None:
    """The reference is written first: the removal sees it, though it was not committed when the removal began."""
    [port_id] = await _ports(two, 1)
    async with two.write() as connection:
        await connection.execute(text("DELETE FROM port_security_groups"))
        await connection.execute(text("DELETE FROM free_ranges"))
        if by == "update":
            await store.lease(connection, [_leased()])

    async def remove() -> None:
        async with two.write() as connection:
            await connection.execute(delete(parent).where(parent.c.id == (port_id if parent is ports else ONE)))

    async with two.write() as connection:
        if by == "update":
            await store.give_leased(connection, [_given(port_id=port_id)])
        else:
            await store.give(connection, [_given(port_id=port_id)])
        removing = asyncio.create_task(remove())
        await _is_waiting(removing, two)
    with pytest.raises(Violation) as caught:
        await removing
    assert caught.value.constraint == FOREIGN_KEY


def _leased() -> store.Leased:
    return store.Leased(subnet_id=ONE, network_id=ONE, number=1, ip_version=4, free_at=1.0)


@pytest.mark.parametrize("committed", [True, False], ids=["removed", "kept after all"])
async def test_who_refers_waits_for_who_removes(two: Database, committed: bool) -> None:
    [port_id, other] = await _ports(two, 2)

    async def refer() -> None:
        async with two.write() as connection:
            await store.give(connection, [_given(1, port_id=other), _given(2, port_id=port_id)])

    class Undone(Exception):
        pass

    try:
        async with two.write() as connection:
            await connection.execute(delete(ports).where(ports.c.id == port_id))
            referring = asyncio.create_task(refer())
            await _is_waiting(referring, two)
            if not committed:
                raise Undone
    except Undone:
        await referring
    else:
        with pytest.raises(Violation):
            await referring


async def test_a_removal_with_an_old_picture_is_refused(two: Database) -> None:
    """It would not see what has been committed since."""
    await _ports(two, 1)
    with pytest.raises(Exception, match="READ COMMITTED"):
        async with two.read(one_picture=True) as connection:
            await connection.execute(delete(ports).where(ports.c.id != ONE))


async def test_no_race_leaves_an_address_of_a_port_that_is_gone(two: Database) -> None:
    """Some give addresses to ports, by insertion and by change, many at once; others remove these ports meanwhile."""
    made = await _ports(two, PORTS)
    numbers = iter(range(1, 1 << 20))
    outcomes = {"given": 0, "refused": 0, "removed": 0, "kept": 0}

    async def give(rng: Random) -> None:
        for _ in range(ROUNDS):
            given = [_given(next(numbers), port_id=port_id) for port_id in rng.sample(made, rng.choice([1, 3, 5]))]
            leased = rng.random() < 0.5
            try:
                async with two.write() as connection:
                    if leased:
                        rows = [_leased_at(one.number) for one in given]
                        await store.lease(connection, rows)
                        await store.give_leased(connection, given)
                    else:
                        await store.give(connection, given)
                    await asyncio.sleep(rng.uniform(0, 0.01))
                outcomes["given"] += 1
            except (Violation, Stale):
                outcomes["refused"] += 1

    async def remove(rng: Random) -> None:
        for _ in range(ROUNDS):
            mine = rng.sample(made, 4)
            try:
                async with two.write() as connection:
                    await connection.execute(delete(ports).where(ports.c.id.in_(mine)))
                    await asyncio.sleep(rng.uniform(0, 0.01))
                outcomes["removed"] += 1
            except (Violation, Stale):
                outcomes["kept"] += 1

    async with asyncio.timeout(HANG_S):
        await asyncio.gather(*(play(Random(seed)) for seed, play in enumerate([give, remove] * 3)))
    async with two.read() as connection:
        lost = select(addresses).where(addresses.c.port_id.not_in(select(ports.c.id)))
        assert (await connection.execute(lost)).all() == []
    assert all(outcomes.values()), outcomes  # it was a race


def _leased_at(number: int) -> store.Leased:
    return store.Leased(subnet_id=ONE, network_id=ONE, number=number, ip_version=4, free_at=1.0)
