"""The outbox is published at least once: a process that dies in between, or a bus that is away, loses no note."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import func, select

from muster.base.errors import Bug, Transient
from muster.bus.memory import MemoryBus
from muster.domain.messages import Desired, decode, host_topic
from muster.services import dispatcher
from muster.services.dispatcher import Dispatcher
from muster.store import outbox as store
from muster.store.engine import Connection, Database
from muster.store.outbox import Change, Note, outbox
from tests.conformance.store.compute_cloud import add_hosts, add_server
from tests.databases import make_tables

WAIT_S = 300.0


class Flaky(MemoryBus):
    """A bus that is away as often as `away` says."""

    away = 0

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        if self.away:
            self.away -= 1
            raise Transient("away")
        await super().publish(messages)


class Bed:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.bus = Flaky()
        self.dispatcher = Dispatcher(database, self.bus, lambda: 1.0)

    async def note(self, *server_ids: str) -> None:
        """Servers on host h have changed."""
        async with self.database.write() as connection:
            seqs = await store.raise_seqs(connection, {"h"}, 1.0)
            changes = [Change(host_id="h", server_id=server_id) for server_id in server_ids]
            await store.insert(connection, changes, seqs, 1.0)

    async def left(self) -> int:
        async with self.database.read() as connection:
            return (await connection.execute(select(func.count()).select_from(outbox))).scalar_one()

    async def heard(self, count: int) -> list[Desired]:
        subscription = await self.bus.subscribe(host_topic("h"))
        found: list[Desired] = []
        async with asyncio.timeout(WAIT_S):
            while len(found) < count:
                found += [decode(body) for body in await subscription.next_batch()]  # type: ignore[misc]
        return found


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    database = Database(f"sqlite:///{tmp_path}/muster.db")
    await make_tables(database)
    async with database.write() as connection:
        await add_hosts(connection, "h", firewall=False)
        for server_id in ("a", "b", "c"):
            await add_server(connection, server_id, host_id="h")
    yield Bed(database)
    await database.close()


async def test_all_changes_of_a_host_are_one_message(bed: Bed) -> None:
    await bed.note("a")
    await bed.note("b", "c")
    assert await bed.dispatcher.publish() == 3
    [message] = await bed.heard(1)
    assert {server.id for server in message.servers} == {"a", "b", "c"}
    assert (message.from_seq, message.to_seq, message.everything) == (0, 2, False)
    assert await bed.left() == 0
    assert await bed.dispatcher.publish() == 0


async def test_a_death_between_publishing_and_removing_publishes_twice(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*_: object) -> None:
        raise Transient("dead")

    await bed.note("a")
    with monkeypatch.context() as patch:
        patch.setattr(store, "remove", die)
        with pytest.raises(Transient):
            await bed.dispatcher.publish()
    assert await bed.left() == 1
    await bed.note("b")
    successor = Dispatcher(bed.database, bed.bus, lambda: 1.0)
    await successor.publish()
    first, second = await bed.heard(2)
    assert [server.id for server in first.servers] == ["a"]
    assert {server.id for server in second.servers} == {"a", "b"}
    assert (second.from_seq, second.to_seq) == (0, 2)  # no gap, whichever of the two arrives
    assert await bed.left() == 0


async def test_two_processes_publish_each_note_at_least_once(bed: Bed) -> None:
    await bed.note("a", "b")
    other = Dispatcher(bed.database, bed.bus, lambda: 1.0)
    await asyncio.gather(bed.dispatcher.publish(), other.publish())
    found = await bed.heard(1)
    assert {server.id for message in found for server in message.servers} == {"a", "b"}
    assert await bed.left() == 0


async def test_a_bus_that_is_away_is_waited_for(bed: Bed) -> None:
    bed.bus.away = 1
    await bed.note("a")
    running = asyncio.create_task(bed.dispatcher.run())
    try:
        [message] = await bed.heard(1)
        assert [server.id for server in message.servers] == ["a"]
        await bed.note("b")  # another process noted it: nobody wakes this one, its sweep finds it
        [message] = await bed.heard(1)
        assert [server.id for server in message.servers] == ["b"]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("mistake", [KeyError("a mistake"), Bug("another")])
async def test_a_host_whose_notes_meet_a_mistake_keeps_no_other_waiting(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, mistake: Exception
) -> None:
    real = dispatcher.changes_for

    async def mistaken(connection: Connection, notes: Sequence[Note]) -> object:
        if any(note.host_id == "bad" for note in notes):
            raise mistake
        return await real(connection, notes)

    monkeypatch.setattr(dispatcher, "changes_for", mistaken)
    async with bed.database.write() as connection:
        await add_hosts(connection, "bad", firewall=False)
        await store.insert(connection, [Change(host_id="bad", server_id="c")], {"bad": 1}, 1.0)
    await bed.note("a")
    assert await bed.dispatcher.publish() == 2
    [message] = await bed.heard(1)
    assert [server.id for server in message.servers] == ["a"]
    assert await bed.left() == 0  # the other host misses its number, and asks


async def test_a_note_of_a_server_that_is_gone_still_counts(bed: Bed) -> None:
    await bed.note("gone")
    await bed.dispatcher.publish()
    [message] = await bed.heard(1)
    assert (message.from_seq, message.to_seq, message.servers) == (0, 1, ())
