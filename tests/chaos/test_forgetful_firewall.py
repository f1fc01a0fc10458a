"""A firewall forgets flows that are idle. The next message and the next query come through all the same.

At once with keepalive, late without; in no case are they lost.
"""

import asyncio
import contextlib
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import text

from muster.base.errors import MusterError, Transient
from muster.bus.open import open_bus
from muster.bus.protocol import Subscription
from muster.store.engine import Database
from tests.chaos.firewall import DATABASE_URL, PATIENCE_S, RABBITMQ_URL, Side, Site, remove_folder

pytestmark = [pytest.mark.chaos, pytest.mark.root, pytest.mark.timeout(400)]

#: More than twice what the firewall remembers.
IDLE_S = 7.0
#: On a machine that is busy with other things; by itself a message needs a few ms.
AT_ONCE_S = 2.0
#: As if nobody had thought of it.
NEVER = "silence_s=3600"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="muster-wall-"))
    site = Site(folder)
    try:
        site.start()
        yield site
    finally:
        site.remove()
        remove_folder(folder)


def test_with_keepalive_messages_pass_at_once(site: Site) -> None:
    """What Muster does by itself, at this scale: something is sent every `silence_s / 4`, here each second."""
    before = site.dropped("rabbitmq")
    with talk(site, "silence_s=4") as (host, control):
        times = [conversation(host, control, str(number)) for number in range(3)]
    told("messages with keepalive", *times[1:])
    assert all(max(one) < AT_ONCE_S for one in times)
    assert host.refused == control.refused == 0
    assert site.dropped("rabbitmq") == before, "a flow was forgotten"


def test_without_keepalive_messages_are_late_and_not_lost(site: Site) -> None:
    """Nothing is sent on an idle connection but a heartbeat each 5 s; three times ten without one end it."""
    before = site.dropped("rabbitmq")
    with talk(site, f"{NEVER}&heartbeat_s=10&publish_s=3") as (host, control):
        first, late = (conversation(host, control, str(number)) for number in range(2))
    told("messages without keepalive", late)
    assert max(first) < max(late)
    assert max(late) > AT_ONCE_S
    assert site.dropped("rabbitmq") > before


def test_with_keepalive_the_database_answers_at_once(site: Site) -> None:
    before = site.dropped("postgresql")
    with queries(site, "silence_s=4") as ask:
        times = [ask() for _ in range(3)]
    told("database with keepalive", *times[1:])
    assert [failed for _, failed in times] == [0, 0, 0]
    assert all(seconds < AT_ONCE_S for seconds, _ in times[1:])
    assert site.dropped("postgresql") == before, "a flow was forgotten"


def test_without_keepalive_the_database_answers_late(site: Site) -> None:
    """The driver gives a statement up some seconds after PostgreSQL should have; then another connection is made."""
    before = site.dropped("postgresql")
    with queries(site, f"{NEVER}&statement_s=4&stopped_s=3") as ask:
        ask()
        late = ask()
    told("database without keepalive", late)
    assert late[0] > AT_ONCE_S
    assert site.dropped("postgresql") > before


class Speaker:
    """One side of the bus: what came to it, and when."""

    def __init__(self, side: Side, url: str, topic: str) -> None:
        self.side, self.topic = side, topic
        self.refused = 0  # told to send it again, as the host's courier does
        self._url = url
        self._came: dict[bytes, float] = {}
        side.do(self._open())

    def came(self, body: bytes) -> float:
        until = time.monotonic() + PATIENCE_S
        while body not in self._came:
            assert time.monotonic() < until, "the message is lost"
            time.sleep(0.01)
        return self._came[body]

    async def send(self, topic: str, body: bytes) -> None:
        """Send until RabbitMQ has it."""
        while True:
            try:
                return await self._bus.publish([(topic, body)])
            except Transient:
                self.refused += 1
                await asyncio.sleep(0.5)

    async def _open(self) -> None:
        self._bus = open_bus(self._url, self.topic, Random(1))
        self.side.keep(self._bus.close)
        self._reading = asyncio.create_task(self._read(await self._bus.subscribe(self.topic)))
        self.side.keep(self._stop_reading)

    async def _stop_reading(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self, subscription: Subscription) -> None:
        while True:
            for body in await subscription.next_batch():
                self._came.setdefault(body, time.monotonic())


@contextlib.contextmanager
def talk(site: Site, options: str) -> Iterator[tuple[Speaker, Speaker]]:
    """A host behind the firewall, whose bus has these options, and a control plane before it."""
    name = uuid.uuid4().hex[:8]
    sides = Side(site.host), Side(site.engines)
    try:
        urls = f"{RABBITMQ_URL}?{options}", RABBITMQ_URL
        topics = f"host.{name}", f"control.{name}"
        host, control = (Speaker(*one) for one in zip(sides, urls, topics, strict=True))
        yield host, control
    finally:
        for side in sides:
            side.close()


def conversation(host: Speaker, control: Speaker, word: str) -> tuple[float, float]:
    """Both say something at once, then nothing for long; how long it took to the host and from it."""
    body, sent = word.encode(), time.monotonic()
    sending = [
        control.side.begin(control.send(host.topic, body)),
        host.side.begin(host.send(control.topic, body)),
    ]
    times = host.came(body) - sent, control.came(body) - sent
    for one in sending:
        one.result(PATIENCE_S)
    time.sleep(IDLE_S)
    return times


@contextlib.contextmanager
def queries(site: Site, options: str):
    """Asks PostgreSQL something, through a database with these options; then nothing for long.

    Gives how long it took, and how many tries failed.
    """
    side = Side(site.host)

    async def opened() -> Database:
        database = Database(f"{DATABASE_URL}?{options}")
        side.keep(database.close)
        return database

    async def query(database: Database) -> tuple[float, int]:
        began, failed = time.monotonic(), 0
        while time.monotonic() < began + PATIENCE_S:
            with contextlib.suppress(MusterError):
                async with database.read() as connection:
                    await connection.execute(text("SELECT 1"))
                return time.monotonic() - began, failed
            failed += 1
        raise AssertionError("the database is lost")

    try:
        database = side.do(opened())

        def ask() -> tuple[float, int]:
            answer = side.do(query(database))
            time.sleep(IDLE_S)
            return answer

        yield ask
    finally:
        side.close()


def told(what: str, *times: tuple[float, float]) -> None:
    """For who runs it by hand (`-s`)."""
    print(f"\n{what}: {', '.join(f'{one:.2f} s / {other:.2f}' for one, other in times)}")  # noqa: T201
