"""What every bus promises: each message to one subscription, in the order of a topic, in batches."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from muster.bus import memory
from muster.bus.memory import MemoryBus
from muster.bus.protocol import Bus

WAIT_S = 30.0


@pytest.fixture(params=["memory"])
async def bus() -> AsyncIterator[Bus]:
    made = MemoryBus()
    yield made
    await made.close()


async def _read(subscription, count: int) -> list[bytes]:
    found: list[bytes] = []
    async with asyncio.timeout(WAIT_S):
        while len(found) < count:
            batch = await subscription.next_batch()
            assert batch, "a batch has at least one message"
            found += batch
    return found


def _numbered(count: int, topic: str = "t") -> list[tuple[str, bytes]]:
    return [(topic, str(number).encode()) for number in range(count)]


async def test_messages_come_in_order_and_many_at_once(bus):
    await bus.publish(_numbered(1_000))
    assert await _read(await bus.subscribe("t"), 1_000) == [body for _, body in _numbered(1_000)]


async def test_what_was_published_before_anybody_listened_is_there(bus):
    await bus.publish([("early", b"1")])
    assert await _read(await bus.subscribe("early"), 1) == [b"1"]


async def test_topics_are_apart(bus):
    await bus.publish([("a", b"1"), ("b", b"2"), ("a", b"3")])
    assert await _read(await bus.subscribe("b"), 1) == [b"2"]
    assert await _read(await bus.subscribe("a"), 2) == [b"1", b"3"]


async def test_a_reader_waits_for_the_first_message_and_may_leave(bus):
    subscription = await bus.subscribe("t")
    leaving = asyncio.create_task(subscription.next_batch())
    await asyncio.sleep(0.01)
    assert not leaving.done()
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    reading = asyncio.create_task(_read(subscription, 1))
    await bus.publish([("t", b"1")])
    assert await reading == [b"1"]  # what came after the other left is not lost


async def test_each_message_goes_to_one_subscription(bus):
    first, second = await bus.subscribe("t"), await bus.subscribe("t")
    readers = [asyncio.create_task(_drain(one)) for one in (first, second)]
    for _ in range(20):
        await bus.publish(_numbered(5))
        await asyncio.sleep(0)
    await asyncio.sleep(0.1)
    for reader in readers:
        reader.cancel()
    found = [body for got in await asyncio.gather(*readers) for body in got]
    assert sorted(found) == sorted(body for _, body in _numbered(5) * 20)


async def _drain(subscription) -> list[bytes]:
    found: list[bytes] = []
    try:
        while True:
            found += await subscription.next_batch()
    except asyncio.CancelledError:
        return found


async def test_a_batch_is_bounded(bus):
    await bus.publish(_numbered(memory.BATCH_LIMIT + 10))
    subscription = await bus.subscribe("t")
    assert len(await subscription.next_batch()) <= memory.BATCH_LIMIT
    assert len(await subscription.next_batch()) >= 10


async def test_what_nobody_reads_is_kept_up_to_a_bound_the_newest_first(monkeypatch):
    monkeypatch.setattr(memory, "TOPIC_LIMIT", 100)
    bus = MemoryBus()
    await bus.publish(_numbered(150))
    assert await _read(await bus.subscribe("t"), 100) == [body for _, body in _numbered(150)][50:]
