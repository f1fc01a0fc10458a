"""What every bus must do."""

import asyncio
from collections import Counter

import pytest

from muster.base.errors import Transient
from muster.bus.protocol import Subscription
from muster.domain.messages import CONTROL_TOPIC
from tests.conformance.bus.conftest import Buses

HANG_S = 300.0


async def read(subscription: Subscription, count: int) -> list[bytes]:
    """The next `count` messages, or more."""
    found: list[bytes] = []
    async with asyncio.timeout(HANG_S):
        while len(found) < count:
            found += await subscription.next_batch()
    return found


def numbered(count: int, first: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(first, first + count)]


async def test_all_messages_arrive_in_order(buses: Buses) -> None:
    writer, reader = buses.open(), buses.open()
    topics = [f"host.{letter}" for letter in "abc"]
    subscriptions = {topic: await reader.subscribe(topic) for topic in topics}
    for size in (1, 700):  # alone, and many at once
        await writer.publish([(topic, body) for body in numbered(size) for topic in topics])
        for subscription in subscriptions.values():
            assert await read(subscription, size) == numbered(size)


async def test_what_was_sent_before_anybody_listened_is_kept(buses: Buses) -> None:
    await buses.open().publish([("host.late", body) for body in numbered(20)])
    assert await read(await buses.open().subscribe("host.late"), 20) == numbered(20)


@pytest.mark.parametrize("topic", [CONTROL_TOPIC, "host.a"])
async def test_each_message_goes_to_one_reader_of_the_topic(buses: Buses, topic: str) -> None:
    writer = buses.open()
    found: list[bytes] = []

    async def listen(subscription: Subscription) -> None:
        while True:
            found.extend(await subscription.next_batch())
            await asyncio.sleep(0.001)

    readers = [asyncio.create_task(listen(await buses.open().subscribe(topic))) for _ in range(3)]
    for first in range(0, 300, 10):
        await writer.publish([(topic, body) for body in numbered(10, first)])
    async with asyncio.timeout(HANG_S):
        while len(found) < 300:
            await asyncio.sleep(0.01)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    assert Counter(found) == Counter(numbered(300))
    assert topic != CONTROL_TOPIC or found == numbered(300)  # by one reader, so in their order


async def test_the_control_topic_goes_to_another_reader_when_its_reader_leaves(buses: Buses) -> None:
    writer = buses.open()
    readers = [await buses.open().subscribe(CONTROL_TOPIC) for _ in range(3)]
    waiting = [asyncio.create_task(reader.next_batch()) for reader in readers[1:]]
    for first, reader in enumerate(readers[:-1]):
        await writer.publish([(CONTROL_TOPIC, body) for body in numbered(20, 20 * first)])
        found = await waiting[first - 1] if first else await read(reader, 20)
        assert (found + await read(reader, 20 - len(found)))[0] == b"%d" % (20 * first)
        assert not waiting[first].done()
        await asyncio.gather(asyncio.wait({asyncio.create_task(reader.next_batch())}, timeout=0.3))  # it is done with
        await reader.close()
    await writer.publish([(CONTROL_TOPIC, b"last")])
    assert await asyncio.wait_for(waiting[-1], HANG_S) == [b"last"]


async def test_a_reader_waits_until_something_comes(buses: Buses) -> None:
    subscription = await buses.open().subscribe("host.a")
    waiting = asyncio.create_task(subscription.next_batch())
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await buses.open().publish([("host.a", b"x")])
    assert await asyncio.wait_for(waiting, HANG_S) == [b"x"]


async def test_a_wait_that_is_cancelled_takes_nothing(buses: Buses) -> None:
    subscription = await buses.open().subscribe("host.a")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(subscription.next_batch(), 0.1)
    await buses.open().publish([("host.a", b"x")])
    assert await read(subscription, 1) == [b"x"]


async def test_a_batch_is_bounded(buses: Buses) -> None:
    bus = buses.open()
    await bus.publish([("host.a", body) for body in numbered(buses.batch_limit + 10)])
    subscription = await bus.subscribe("host.a")
    sizes = []
    async with asyncio.timeout(HANG_S):
        while sum(sizes) < buses.batch_limit + 10:
            sizes.append(len(await subscription.next_batch()))
    assert max(sizes) <= buses.batch_limit


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
async def test_a_message_may_be_of_any_size(buses: Buses, size: int) -> None:
    body = bytes(index % 251 for index in range(size))
    subscription = await buses.open().subscribe("host.a")
    await buses.open().publish([("host.a", body), ("host.a", b"after")])
    assert await read(subscription, 2) == [body, b"after"]


async def test_nothing_to_send_is_nothing(buses: Buses) -> None:
    await buses.open().publish([])


async def test_a_full_control_topic_refuses_until_it_is_read(buses: Buses) -> None:
    bus = buses.open(limit=50)
    await bus.publish([(CONTROL_TOPIC, b"first")])

    async def too_much() -> None:
        for _ in range(20):
            await bus.publish([(CONTROL_TOPIC, body) for body in numbered(50)])

    with pytest.raises(Transient) as caught:
        await too_much()
    assert caught.value.retry_after_s > 0
    await bus.publish([("host.a", b"x")])  # other topics go on
    subscription = await bus.subscribe(CONTROL_TOPIC)
    assert (await read(subscription, 50))[0] == b"first"
    async with asyncio.timeout(HANG_S):
        while True:
            reading = asyncio.create_task(subscription.next_batch())
            try:
                await bus.publish([(CONTROL_TOPIC, b"again")])
                break
            except Transient:  # it takes RabbitMQ a moment to count what was acknowledged
                await asyncio.sleep(0.1)
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)


async def test_a_host_that_does_not_read_holds_nobody_up(buses: Buses) -> None:
    bus = buses.open(limit=50)
    for first in range(0, 300, 50):
        await bus.publish([("host.deaf", body) for body in numbered(50, first)] + [("host.a", b"%d" % first)])
    assert len(await read(await bus.subscribe("host.a"), 6)) == 6
    deaf = await bus.subscribe("host.deaf")
    kept = await read(deaf, 1)
    while kept[-1] != b"299":
        kept += await read(deaf, 1)
    assert len(kept) <= 60  # RabbitMQ counts in batches of its own
    assert kept == numbered(300)[-len(kept) :]


async def test_another_reader_goes_on_where_one_has_left(buses: Buses) -> None:
    first = await buses.open().subscribe("host.a")
    await buses.open().publish([("host.a", b"1")])
    assert await read(first, 1) == [b"1"]
    with pytest.raises(TimeoutError):  # asking for more says that the first is done with
        await asyncio.wait_for(first.next_batch(), 0.3)
    await first.close()
    await buses.open().publish([("host.a", b"2")])
    assert await read(await buses.open().subscribe("host.a"), 1) == [b"2"]
