"""What the bus over RabbitMQ promises beyond the common suite: whatever breaks costs time, and no message."""

import asyncio
import logging
import re
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import aiormq
import pytest
from aiormq.channel import Channel
from prometheus_client import Histogram
from structlog.testing import capture_logs

from benchmarks.free_ports import free_port
from muster.base.errors import Transient
from muster.base.metrics import DELIVERY_SECONDS, PUBLISH_SECONDS
from muster.bus import rabbitmq_queues
from muster.bus.rabbitmq import RabbitBus
from muster.bus.rabbitmq_settings import SINGLE_READER, RabbitSettings, from_url
from muster.domain.messages import CONTROL_TOPIC
from tests.conformance.bus.test_buses import HANG_S, numbered, read
from tests.engines.proxy import Proxy
from tests.engines.rabbitmq import PASSWORD, PATIENT, RabbitMq


@asynccontextmanager
async def opened(url: str, count: int = 1) -> AsyncIterator[list[RabbitBus]]:
    buses = [RabbitBus(from_url(url), f"test {index}", Random(index)) for index in range(count)]
    try:
        yield buses
    finally:
        await asyncio.shield(asyncio.gather(*(bus.close() for bus in buses)))


@asynccontextmanager
async def proxied(broker: RabbitMq) -> AsyncIterator[Proxy]:
    proxy = Proxy(broker.port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()


async def publish(bus: RabbitBus, topic: str, bodies: list[bytes]) -> int:
    """Publish as the project's publishers do: again until it is taken. Returns how often it was refused."""
    refused = 0
    async with asyncio.timeout(HANG_S):
        while True:
            try:
                await bus.publish([(topic, body) for body in bodies])
            except Transient:
                refused += 1
                await asyncio.sleep(0.1)
            else:
                return refused


async def test_what_a_reader_was_not_done_with_goes_to_another(rabbitmq: RabbitMq, prefix: str) -> None:
    async with opened(f"{rabbitmq.url}?prefix={prefix}&{PATIENT}", 2) as [one, two]:
        first = await one.subscribe(CONTROL_TOPIC)
        await one.publish([(CONTROL_TOPIC, body) for body in numbered(5)])
        begun = await first.next_batch()  # asking for another would acknowledge this one
        assert begun == numbered(5)[: len(begun)]
        await one.close()  # in the middle of its batch
        assert sorted(await read(await two.subscribe(CONTROL_TOPIC), 5)) == numbered(5)


async def test_a_connection_has_so_many_readers_and_more_have_another(
    rabbitmq: RabbitMq, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ lets a connection have 2,047 channels; a process may have thousands of simulated hosts."""
    monkeypatch.setattr("muster.bus.rabbitmq.READERS_PER_LINK", 2)
    async with opened(f"{rabbitmq.url}?prefix={prefix}&{PATIENT}") as [bus]:
        listening = [await bus.subscribe(f"host.{index}") for index in range(5)]
        assert [len(readers) for readers in bus._readers.values()] == [2, 2, 1]
        await bus.publish([(f"host.{index}", f"{index}".encode()) for index in range(5)])
        assert [await read(one, 1) for one in listening] == [[f"{index}".encode()] for index in range(5)]
        await listening[0].close()
        await bus.subscribe("host.another")  # takes the place that is free
        assert [len(readers) for readers in bus._readers.values()] == [2, 2, 1]


@pytest.fixture
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    with capture_logs() as found:
        yield found


async def test_a_broker_that_is_killed_and_comes_back(
    rabbitmq: RabbitMq, prefix: str, logs: list[MutableMapping[str, Any]]
) -> None:
    async with opened(f"{rabbitmq.url}?prefix={prefix}&connect_s=5&stuck_s=10&publish_s=20", 2) as [writer, reader]:
        listening = await _subscribed(reader, "host.a")
        # RabbitMQ 3.10 forgets the leader of the queue that it made last before it was killed: not one of ours.
        await writer.publish([("host.a", b"before"), ("host.unread", b"kept"), ("host.last", b"")])
        assert await read(listening, 1) == [b"before"]
        assert writer.away_s(HANG_S) == 0.0
        rabbitmq.kill()
        try:
            with pytest.raises(Transient):
                await asyncio.wait_for(writer.publish([("host.a", b"while away")]), HANG_S)
            with pytest.raises(Transient):
                await asyncio.wait_for(reader.subscribe("host.b"), HANG_S)
            assert writer.away_s(0.0) > 0.0
        finally:
            await asyncio.to_thread(rabbitmq.start)
        await publish(writer, "host.a", [b"after"])
        found: list[bytes] = []
        while b"after" not in found:  # 'before' may come again: it was not followed by a request for more
            found += await read(listening, 1)
        assert (writer.away_s(0.0), writer.away_s(10 * HANG_S) > 0.0) == (0.0, True)
        async with asyncio.timeout(HANG_S):
            assert await read(await _subscribed(reader, "host.unread"), 1) == [b"kept"]
    told = {line["log_level"] for line in logs if line["action"] == "bus.connected"}
    assert told == {"info", "warning"}, "as loud as that it was lost"


async def test_a_queue_that_is_stuck_holds_nobody_up_and_is_made_anew(
    rabbitmq: RabbitMq, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As RabbitMQ 3.10 leaves one that it made right before it was killed: it exists, and nothing of it answers."""
    really_publish, really_consume = Channel.basic_publish, Channel.basic_consume
    queue = f"{prefix}host.stuck"

    removed = asyncio.Event()
    really_delete = Channel.queue_delete

    async def publish_or_hang(self: Channel, body: bytes, **named: object) -> object:
        if named["routing_key"] == queue and not removed.is_set():
            await asyncio.Event().wait()
        return await really_publish(self, body, **named)

    async def consume_or_hang(self: Channel, name: str, *rest: object) -> object:
        if name == queue and not removed.is_set():
            await asyncio.Event().wait()
        return await really_consume(self, name, *rest)

    async def delete(self: Channel, name: str) -> object:
        answer = await really_delete(self, name)
        removed.set()
        return answer

    url = f"{rabbitmq.url}?prefix={prefix}&publish_s=10&stuck_s=5"
    monkeypatch.setattr(Channel, "basic_publish", publish_or_hang)
    monkeypatch.setattr(Channel, "basic_consume", consume_or_hang)
    monkeypatch.setattr(Channel, "queue_delete", delete)
    async with opened(url, 2) as [writer, reader]:
        well = await _subscribed(reader, "host.well")
        with pytest.raises(Transient):
            await writer.publish([("host.stuck", b"alone: as if nothing answered")])
        for number in numbered(20):  # waits once, and then no more
            await writer.publish([("host.stuck", b"passed over"), ("host.well", number)])
        assert await read(well, 20) == numbered(20)
        assert not removed.is_set()
        listening = await reader.subscribe("host.stuck")
        assert removed.is_set()
        await publish(writer, "host.stuck", [b"2"])
        assert (await read(listening, 1))[-1] == b"2"


async def _subscribed(bus: RabbitBus, topic: str):
    while True:
        try:
            return await bus.subscribe(topic)
        except Transient:
            await asyncio.sleep(0.2)


async def test_connections_that_are_cut_all_the_time_lose_nothing(rabbitmq: RabbitMq, prefix: str) -> None:
    async with proxied(rabbitmq) as proxy:
        url = f"{rabbitmq.url_at(proxy.port)}?prefix={prefix}&{PATIENT}&backoff_s=0.2"
        async with opened(url, 2) as [writer, reader]:
            listening = await reader.subscribe("host.a")
            found: list[bytes] = []

            async def listen() -> None:
                while True:
                    found.extend(await listening.next_batch())
                    await asyncio.sleep(0.002)

            async def cut() -> None:
                for _ in range(6):
                    await asyncio.sleep(0.25)
                    proxy.cut()

            listener, cutter = asyncio.create_task(listen()), asyncio.create_task(cut())
            sent = 0
            while not cutter.done():
                await publish(writer, "host.a", numbered(20, sent))
                sent += 20
            await cutter
            await publish(writer, "host.a", [b"last"])
            async with asyncio.timeout(HANG_S):
                while b"last" not in found:
                    await asyncio.sleep(0.05)
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
            assert set(found) == {*numbered(sent), b"last"}
            assert proxy.links_made > 6


async def test_a_firewall_that_forgets_the_connection(rabbitmq: RabbitMq, prefix: str) -> None:
    async with proxied(rabbitmq) as proxy:
        url = f"{rabbitmq.url_at(proxy.port)}?prefix={prefix}&heartbeat_s=2&publish_s=5&connect_s=5&backoff_s=0.2"
        async with opened(url, 2) as [writer, reader]:
            listening = await _subscribed(reader, "host.a")
            await publish(writer, "host.a", [b"1"])
            assert set(await read(listening, 1)) == {b"1"}  # once, or again if its confirmation was late

            async def heard_again() -> bytes:
                while (found := (await read(listening, 1))[-1]) == b"1":
                    pass  # said again on a connection that was made anew
                return found

            waiting = asyncio.create_task(heard_again())
            await asyncio.sleep(0.2)
            proxy.silence()
            with pytest.raises(Transient):
                await asyncio.wait_for(writer.publish([("host.a", b"2")]), HANG_S)
            proxy.speak()
            await publish(writer, "host.a", [b"3"])
            assert await asyncio.wait_for(waiting, HANG_S) in (b"2", b"3")


async def test_tcp_looks_after_the_connections(rabbitmq: RabbitMq, prefix: str) -> None:
    async with opened(f"{rabbitmq.url}?prefix={prefix}&{PATIENT}&silence_s=4000") as [bus]:
        await bus.subscribe("host.a")
        await bus.publish([("host.a", b"1")])
        ours = ["ss", "-tnoH", "state", "established", f"( dport = :{rabbitmq.port} )"]
        async with asyncio.timeout(HANG_S):
            while True:  # what is on its way has another timer
                lines = subprocess.run(
                    ours, check=True, capture_output=True, text=True, timeout=120
                ).stdout.splitlines()
                if len([line for line in lines if re.search(r"timer:\(keepalive,1[56]min", line)]) == 2:
                    break
                await asyncio.sleep(0.1)


async def test_a_queue_that_someone_deletes_is_made_again(rabbitmq: RabbitMq, prefix: str) -> None:
    async with opened(f"{rabbitmq.url}?prefix={prefix}&{PATIENT}&check_s=1", 2) as [writer, reader]:
        listening = await reader.subscribe("host.a")
        for body in (b"1", b"2", b"3"):
            await asyncio.to_thread(rabbitmq.control, "delete_queue", f"{prefix}host.a")
            # Made again so soon that RabbitMQ may forget to tell the reader, or take it for one that it serves.
            await publish(writer, "host.a", [body])
            assert await read(listening, 1) == [body]


async def test_how_long_messages_take_is_counted(rabbitmq: RabbitMq, prefix: str) -> None:
    async with opened(f"{rabbitmq.url}?prefix={prefix}&{PATIENT}", 2) as [writer, reader]:
        published, delivered = counted(PUBLISH_SECONDS), counted(DELIVERY_SECONDS)
        took_s, began = counted(DELIVERY_SECONDS, "_sum"), time.time()
        listening = await reader.subscribe("host.a")
        await writer.publish([("host.a", b"1"), ("host.a", b"2")])
        assert await read(listening, 2) == [b"1", b"2"]
        assert counted(PUBLISH_SECONDS) == published + 1
        assert counted(DELIVERY_SECONDS) == delivered + 2
        # Each less than all of this: a header of 32 bits said anything up to a minute, or nothing.
        assert 0.0 < counted(DELIVERY_SECONDS, "_sum") - took_s < 2 * (time.time() - began)


def counted(histogram: Histogram, what: str = "_count") -> float:
    [family] = histogram.collect()
    return sum(sample.value for sample in family.samples if sample.name.endswith(what))


async def test_a_queue_with_other_limits_is_used_as_it_is(rabbitmq: RabbitMq, prefix: str) -> None:
    url = f"{rabbitmq.url}?prefix={prefix}&{PATIENT}"
    async with opened(url + "&max_messages=7") as [older]:
        await older.publish([("host.a", b"1")])
    async with opened(url) as [newer]:
        listening = await newer.subscribe("host.a")
        await newer.publish([("host.a", b"2")])
        assert await read(listening, 2) == [b"1", b"2"]


def _shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queues are made as by a version before."""
    now = RabbitSettings.queue_arguments
    monkeypatch.setattr(
        RabbitSettings,
        "queue_arguments",
        lambda self, topic: {key: value for key, value in now(self, topic).items() if key != SINGLE_READER},
    )


async def test_the_control_queue_of_an_earlier_version_is_made_anew_when_nobody_reads_it(
    rabbitmq: RabbitMq, prefix: str
) -> None:
    url = f"{rabbitmq.url}?prefix={prefix}&{PATIENT}"

    async def has_one_reader() -> bool:
        listed = await asyncio.to_thread(rabbitmq.control, "list_queues", "name", "arguments")
        [queue] = [line for line in listed.splitlines() if line.startswith(f"{prefix}control\t")]
        return SINGLE_READER in queue

    async with opened(url, 7) as [old, first, *others]:
        with pytest.MonkeyPatch.context() as monkeypatch:
            _shared(monkeypatch)
            listening = await old.subscribe(CONTROL_TOPIC)
            await old.publish([(CONTROL_TOPIC, b"old")])
            assert await read(listening, 1) == [b"old"]
            await first.publish([(CONTROL_TOPIC, b"kept")])
            assert await read(listening, 1) == [b"kept"], "an old worker reads: it is left as it is"
        early = await first.subscribe(CONTROL_TOPIC)  # beside the old one, as while workers are replaced
        await early.close()
        assert not await has_one_reader()
        await old.close()
        # Several that would make it anew at the same time left RabbitMQ 3.10 with a queue that nobody could make.
        readers = await asyncio.gather(*(bus.subscribe(CONTROL_TOPIC) for bus in (first, *others)))
        for body in numbered(20):
            await publish(first, CONTROL_TOPIC, [body])
        assert await has_one_reader()
        reading = [asyncio.create_task(read(reader, 20)) for reader in readers]
        done, other = await asyncio.wait(reading, timeout=HANG_S, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result() for task in done] == [numbered(20)], "one of them gets all, in order"
        for task in other:
            task.cancel()


async def test_who_is_cancelled_while_making_the_control_queue_anew_holds_nobody_up(
    rabbitmq: RabbitMq, prefix: str
) -> None:
    """The lock goes with its connection, which others of the process use on."""
    settings = from_url(f"{rabbitmq.url}?prefix={prefix}")
    one, other = [await aiormq.connect(rabbitmq.url) for _ in range(2)]
    inside = asyncio.Event()

    async def stay() -> None:
        async with rabbitmq_queues._alone(one, settings):
            inside.set()
            await asyncio.Event().wait()

    try:
        staying = asyncio.create_task(stay())
        async with asyncio.timeout(HANG_S):
            await inside.wait()
            with pytest.raises(Transient):
                async with rabbitmq_queues._alone(other, settings):
                    pass
            staying.cancel()
            await asyncio.gather(staying, return_exceptions=True)
            async with rabbitmq_queues._alone(other, settings):
                pass
        assert not one.is_closed
    finally:
        await asyncio.gather(one.close(), other.close())


async def test_a_broker_that_is_away_is_left_for_the_next(rabbitmq: RabbitMq, prefix: str) -> None:
    url = rabbitmq.url.replace("@", f"@127.0.0.1:{free_port()},") + f"?prefix={prefix}&{PATIENT}"
    async with opened(url, 4) as buses:  # each begins with one or the other
        for bus in buses:
            await publish(bus, "host.a", [b"1"])


async def test_with_tls(rabbitmq: RabbitMq, prefix: str) -> None:
    url = rabbitmq.url_at(rabbitmq.tls_port).replace("amqp:", "amqps:") + f"?prefix={prefix}&connect_s=20"
    async with opened(f"{url}&ca_file={rabbitmq.authority.file}") as [bus]:
        listening = await bus.subscribe("host.a")
        await bus.publish([("host.a", b"1")])
        assert await read(listening, 1) == [b"1"]
    async with opened(url) as [distrustful]:
        with pytest.raises(Transient):
            await distrustful.publish([("host.a", b"1")])


async def test_a_vhost_of_ones_own(rabbitmq: RabbitMq, prefix: str) -> None:
    await asyncio.to_thread(rabbitmq.control, "add_vhost", "clouds/one")
    await asyncio.to_thread(rabbitmq.control, "set_permissions", "-p", "clouds/one", "muster", ".*", ".*", ".*")
    async with opened(f"{rabbitmq.url}/clouds%2Fone?prefix={prefix}&{PATIENT}") as [bus]:
        await bus.publish([("host.a", b"1")])
    assert f"{prefix}host.a" in await asyncio.to_thread(rabbitmq.control, "list_queues", "-p", "clouds/one", "name")


async def test_credentials_are_in_no_log_and_no_error(
    rabbitmq: RabbitMq, prefix: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = "quite:wrong/secret"
    async with opened(f"{rabbitmq.url}?prefix={prefix}&{PATIENT}") as [bus]:
        await bus.publish([("host.a", b"1")])
    refused = rabbitmq.url.replace(rabbitmq.url.split(":")[2].split("@")[0], "quite%3Awrong%2Fsecret")
    async with opened(f"{refused}?connect_s=1") as [stranger]:
        with pytest.raises(Transient) as caught:
            await stranger.publish([("host.a", b"1")])
    printed = capsys.readouterr()
    said = caplog.text + printed.out + printed.err + repr(caught.value) + repr(caught.value.__cause__)
    assert "no connection" in said
    for secret in (PASSWORD, wrong, "a%3Asecret", "quite%3Awrong"):
        assert secret not in said


async def test_the_queues_are_of_the_kind_that_survives(rabbitmq: RabbitMq, prefix: str) -> None:
    async with opened(f"{rabbitmq.url}?prefix={prefix}&{PATIENT}") as [bus]:
        await bus.publish([("host.a", b"1"), (CONTROL_TOPIC, b"1")])
    listed = await asyncio.to_thread(rabbitmq.control, "list_queues", "name", "type", "durable", "arguments")
    mine = {line.split("\t")[0]: line for line in listed.splitlines() if line.startswith(prefix)}
    assert mine.keys() == {f"{prefix}host.a", f"{prefix}control"}
    assert all("\tquorum\ttrue\t" in line and "x-max-length" in line for line in mine.values())
    assert "reject-publish" in mine[f"{prefix}control"]
    assert "drop-head" in mine[f"{prefix}host.a"]
    assert "x-expires" in mine[f"{prefix}host.a"]


async def test_who_reconnects_waits_longer_each_time_and_not_in_step(
    monkeypatch: pytest.MonkeyPatch, logs: list[MutableMapping[str, Any]]
) -> None:
    from muster.bus.rabbitmq_link import Link

    pauses: list[list[float]] = []
    really_sleep = asyncio.sleep

    async def refuse(*_: object, **__: object) -> None:
        raise ConnectionRefusedError

    async def note(delay_s: float) -> None:
        pauses[-1].append(delay_s)
        await really_sleep(0)

    monkeypatch.setattr(aiormq, "connect", refuse)
    monkeypatch.setattr("muster.bus.rabbitmq_link.asyncio.sleep", note)
    for seed in (1, 2):
        pauses.append([])
        link = Link(from_url("amqp://127.0.0.1:1?backoff_s=5"), "test", Random(seed))
        while len(pauses[-1]) < 12:
            await really_sleep(0.01)
        await link.close()
    for mine in pauses:
        assert 0.1 <= mine[0] <= 0.2
        assert all(2.5 <= pause_s <= 5.0 for pause_s in mine[6:12])
    assert pauses[0][:6] != pauses[1][:6]
    assert len([line for line in logs if line["action"] == "bus.connect"]) == 2, "once by each of the two"
