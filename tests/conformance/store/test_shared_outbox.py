"""Several processes publish one outbox: each change once, a host's changes in order, and nobody waits for the bus."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from sqlalchemy import func, select

from muster.base.errors import Away
from muster.bus.memory import MemoryBus
from muster.domain.messages import Desired, decode
from muster.services import dispatcher
from muster.services.dispatcher import Dispatcher
from muster.store import outbox as store
from muster.store.engine import Connection, Database
from muster.store.outbox import Change, outbox

from .compute_cloud import add_hosts, add_server

HANG_S = 300.0
HOSTS = [f"h{index}" for index in range(12)]


class SlowBus(MemoryBus):
    """Takes messages only while `open`, one publish after the other, and keeps what it took."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.asked = asyncio.Event()
        self.taken: list[Desired] = []

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        self.asked.set()
        await self.open.wait()
        await asyncio.sleep(0.01)
        for _, body in messages:
            message = decode(body)
            assert isinstance(message, Desired)
            self.taken.append(message)


async def note(database: Database, *host_ids: str) -> None:
    """A server of each of these hosts has changed."""
    async with database.write() as connection:
        seqs = await store.raise_seqs(connection, set(host_ids), 1.0)
        changes = [Change(host_id=host_id, server_id=f"of-{host_id}") for host_id in host_ids]
        await store.insert(connection, changes, seqs, 1.0)


async def claimed(database: Database) -> None:
    """Wait until the outbox can be had."""
    while True:
        async with database.hold() as connection:
            if await store.claim(connection):
                return
        await asyncio.sleep(0.02)


@pytest.fixture
async def both(database: Database) -> AsyncIterator[tuple[Database, Database]]:
    """The same database, as two processes see it; every host has a server."""
    async with database.write() as connection:
        await add_hosts(connection, *HOSTS, firewall=False)
        for host_id in HOSTS:
            await add_server(connection, f"of-{host_id}", host_id=host_id)
    other = Database(database.url)
    yield database, other
    await other.close()


async def test_the_outbox_is_claimed_by_one_until_it_is_done(both: tuple[Database, Database]) -> None:
    one, two = both
    async with one.hold() as first:
        assert not await store.claim(first)  # nothing waits: who notes something now finds it free
        await note(two, *HOSTS)
        async with two.hold() as second:
            assert await store.claim(second)
    async with one.hold() as first:
        assert await store.claim(first)
        assert [found.host_id for found in await store.read(first, 5, 100)] == HOSTS[:5]  # those that wait longest
        async with two.hold() as second:
            assert await store.claim(second) == one.is_sqlite
    async with two.hold() as second:
        assert await store.claim(second)


async def test_of_many_who_are_woken_at_once_one_publishes(both: tuple[Database, Database]) -> None:
    """Each looks before it claims, and has the claim for that moment; whoever that keeps from it leaves no note."""
    bus = SlowBus()
    bus.open.set()
    for _ in range(10):
        await note(both[0], *HOSTS)
        woken = [
            Dispatcher(database, bus, lambda: 1.0).publish() for database in both * (1 if both[0].is_sqlite else 3)
        ]
        async with asyncio.timeout(HANG_S):
            published = await asyncio.gather(*woken)
        assert sorted(published)[-1] == len(HOSTS)


async def test_a_dead_process_has_no_claim(both: tuple[Database, Database]) -> None:
    one, two = both
    if one.is_sqlite:
        return
    await note(one, "h0")
    async with one.hold() as first:
        assert await store.claim(first)
        raw = await first.get_raw_connection()
        raw.driver_connection.terminate()  # type: ignore[union-attr]
    async with asyncio.timeout(HANG_S):
        await claimed(two)


async def test_a_process_that_stands_still_soon_has_no_claim(both: tuple[Database, Database]) -> None:
    """Also where its other transactions may be idle for long."""
    one, two = both
    if one.is_sqlite:
        return
    await note(one, "h0")
    patient = Database(one.url, stopped_s=3_600.0)

    async def stand_still_with_it() -> None:
        async with patient.hold() as first:
            assert await store.claim(first)
            async with asyncio.timeout(HANG_S):
                await claimed(two)
            await store.keep(first)  # it goes on, and hears that it was too late

    with pytest.raises(Away):
        await stand_still_with_it()
    await patient.close()


async def test_who_publishes_for_long_keeps_the_claim(
    both: tuple[Database, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = both
    monkeypatch.setattr(dispatcher, "_KEEP_S", 0.3)
    bus = SlowBus()
    await note(one, *HOSTS)
    kept = 0

    async def keep(connection: Connection) -> None:
        nonlocal kept
        await store_keep(connection)
        kept += 1

    store_keep = store.keep
    monkeypatch.setattr(store, "keep", keep)
    publishing = asyncio.create_task(Dispatcher(one, bus, lambda: 1.0).publish())
    async with asyncio.timeout(HANG_S):
        while kept * 0.3 < 1.5 * store.CLAIM_S:  # for longer than the claim lasts by itself
            await asyncio.sleep(0.05)
        if not one.is_sqlite:
            assert await Dispatcher(two, bus, lambda: 1.0).publish() == 0
        bus.open.set()
        assert await publishing == len(HOSTS)


async def test_a_slow_bus_keeps_nobody_waiting(both: tuple[Database, Database]) -> None:
    """While one publishes, others change the same hosts and their servers, and their changes go along next."""
    one, two = both
    bus = SlowBus()
    await note(one, *HOSTS)
    publishing = asyncio.create_task(Dispatcher(one, bus, lambda: 1.0).publish())
    async with asyncio.timeout(HANG_S):
        await bus.asked.wait()
        for _ in range(3):
            await note(two, *HOSTS)
        if not one.is_sqlite:
            assert await Dispatcher(two, bus, lambda: 1.0).publish() == 0  # they are being looked after
        bus.open.set()
        assert await publishing == len(HOSTS)
        assert await Dispatcher(two, bus, lambda: 1.0).publish() == 3 * len(HOSTS)
    assert [(m.from_seq, m.to_seq) for m in bus.taken if m.host_id == "h3"] == [(0, 1), (1, 4)]


async def test_what_is_noted_during_a_round_goes_along_with_the_next_hosts_messages(
    both: tuple[Database, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that have waited longest come first, few and then more. With all hosts in a round each had two messages."""
    one, two = both
    monkeypatch.setattr(dispatcher, "_HOSTS", 2)
    bus = SlowBus()
    publisher = Dispatcher(one, bus, lambda: 1.0)
    await note(one, *HOSTS)
    publishing = asyncio.create_task(publisher.publish())
    async with asyncio.timeout(HANG_S):
        await bus.asked.wait()
        await note(two, *HOSTS)
        bus.open.set()
        assert await publishing == 2
        while await publisher.publish():
            pass
    first, then, last = HOSTS[:2], HOSTS[2:6], HOSTS[6:]
    assert [message.host_id for message in bus.taken] == [*first, *then, *last, *first]
    assert {(m.from_seq, m.to_seq) for m in bus.taken if m.host_id in (*then, *last)} == {(0, 2)}
    assert publisher._hosts == 2  # the next change alone is not held up by many


async def test_each_change_is_published_once_and_in_order(both: tuple[Database, Database]) -> None:
    bus = SlowBus()
    bus.open.set()
    dispatchers = [Dispatcher(database, bus, lambda: 1.0, sweep_s=0.2) for database in both]
    running = [asyncio.create_task(dispatcher.run()) for dispatcher in dispatchers]
    rounds = 15

    async def change(index: int) -> None:
        for turn in range(rounds):
            await note(both[index], *HOSTS[(index + turn) % 3 :])
            dispatchers[index].wake()

    async with asyncio.timeout(HANG_S):
        await asyncio.gather(change(0), change(1))
        while True:
            async with both[0].read() as connection:
                if not (await connection.execute(select(func.count()).select_from(outbox))).scalar_one():
                    break
            await asyncio.sleep(0.05)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    if both[0].is_sqlite:
        return  # one process only: two publish everything twice there
    for host_id in HOSTS:
        spans = [(message.from_seq, message.to_seq) for message in bus.taken if message.host_id == host_id]
        assert [first for first, _ in spans] == [0, *(last for _, last in spans[:-1])], "a gap, or twice"
