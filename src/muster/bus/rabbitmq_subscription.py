"""Reading a topic from RabbitMQ.

Invariant: a message counts as read only when its reader asks for the next batch, so a reader that dies before leaves it
to another.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from random import Random

from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage

from muster.base.errors import Transient
from muster.base.log import get_logger
from muster.base.metrics import DELIVERY_SECONDS
from muster.bus.rabbitmq_link import Link, told
from muster.bus.rabbitmq_queues import declare, remove
from muster.bus.rabbitmq_settings import RabbitSettings

log = get_logger(__name__)

BATCH_LIMIT = 5_000
#: The header in which a message carries when it was sent: Unix microseconds, by its sender's clock. A whole number: the
#: library writes others in 32 bits, which for times of today are exact to two minutes.
SENT_AT = "sent-at"
_PAUSE_S = 0.2
_STUCK_TIMES = 3
_QUIET_TIMES = 10


class RabbitSubscription:
    """Reads one topic; see `bus.protocol.Subscription`. Listens again after each loss of the connection."""

    def __init__(
        self,
        link: Link,
        settings: RabbitSettings,
        topic: str,
        rng: Random,
        *,
        closed: Callable[["RabbitSubscription"], None],
    ) -> None:
        """`closed` is called when it reads no more."""
        self._closed = closed
        self._link = link
        self._settings = settings
        self._topic = topic
        self._rng = rng
        self._channel: AbstractChannel | None = None
        self._pending: deque[DeliveredMessage] = deque()
        self._given: DeliveredMessage | None = None
        self._heard = False  # since it was last looked at
        self._arrived = asyncio.Event()
        self._listening = asyncio.Event()
        self._task = asyncio.create_task(self._keep(), name=f"reads {topic}")

    async def listening(self) -> None:
        """Wait until RabbitMQ delivers to us. Raises Transient when it is away, or has no answer for long."""
        await self._link.soon()
        try:
            async with asyncio.timeout(_STUCK_TIMES * self._settings.stuck_s):
                await self._listening.wait()
        except TimeoutError as error:
            raise Transient(f"RabbitMQ does not serve {self._topic}", retry_after_s=1.0) from error

    async def next_batch(self) -> list[bytes]:
        await self._acknowledge()
        while not self._pending:
            self._arrived.clear()
            await self._arrived.wait()
        batch = [self._pending.popleft() for _ in range(min(len(self._pending), BATCH_LIMIT))]
        self._given = batch[-1]
        return [message.body for message in batch]

    async def close(self) -> None:
        """What was given out last and not followed by another `next_batch` is delivered again, to whoever listens."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._closed(self)

    async def _acknowledge(self) -> None:
        given, self._given = self._given, None
        if given is None or given.channel is not self._channel or given.delivery_tag is None:
            return  # the connection it came by is gone: it will come again
        with contextlib.suppress(Transient):
            await told(given.channel.basic_ack(given.delivery_tag, multiple=True, wait=False))

    async def _keep(self) -> None:
        while True:
            try:
                await self._listen(await self._link.up())
            except Transient as error:
                log.warning("not listening", action="bus.listen", topic=self._topic, error=error.message)
            await asyncio.sleep(_PAUSE_S * self._rng.uniform(0.5, 1.0))

    async def _listen(self, connection: AbstractConnection) -> None:
        await declare(connection, self._settings, [self._topic])
        channel = await told(connection.channel(publisher_confirms=False))
        ended = asyncio.Event()
        channel.closing.add_done_callback(lambda _: ended.set())
        channel.on_consumer_cancel_callbacks.add(lambda _: ended.set())  # someone deleted the queue
        self._channel = channel
        try:
            await told(channel.basic_qos(prefetch_count=self._settings.prefetch))
            try:
                # A slow broker must not be given more to do by all its readers at once: long, and not in step.
                async with asyncio.timeout(self._settings.stuck_s * self._rng.uniform(1.0, 2.0)):
                    await told(channel.basic_consume(self._settings.prefix + self._topic, self._take))
            except TimeoutError:
                await remove(connection, self._settings, self._topic)
                return
            self._listening.set()
            await self._while_served(channel, ended)
        finally:
            self._channel = None
            self._pending.clear()  # not acknowledged, so it comes again
            with contextlib.suppress(Transient):
                await told(channel.close())

    async def _while_served(self, channel: AbstractChannel, ended: asyncio.Event) -> None:
        """Until listening has ended, the queue has no readers, or so little comes that to listen anew is cheap.

        A queue that is deleted and made again at once may lose its readers without a word, or (seen with RabbitMQ 3.10)
        count one as its own whose channel drops all that the new queue delivers. Nothing tells that from silence.
        """
        quiet_times = 0
        while quiet_times < _QUIET_TIMES and not await self._passes(ended) and await self._is_served(channel):
            quiet_times = 0 if self._heard else quiet_times + 1
            self._heard = False

    async def _passes(self, ended: asyncio.Event) -> bool:
        """Wait until listening has ended, or it is time to look whether it has."""
        try:
            async with asyncio.timeout(self._settings.check_s * self._rng.uniform(0.5, 1.0)):
                return await ended.wait()
        except TimeoutError:
            return False

    async def _is_served(self, channel: AbstractChannel) -> bool:
        """Whether the queue has readers."""
        told_of = await told(channel.queue_declare(self._settings.prefix + self._topic, passive=True))
        return bool(told_of.consumer_count)

    async def _take(self, message: DeliveredMessage) -> None:
        if message.channel is self._channel:
            self._pending.append(message)
            self._heard = True
            _observe_delivery(message)
            self._arrived.set()


def _observe_delivery(message: DeliveredMessage) -> None:
    sent_at = (message.header.properties.headers or {}).get(SENT_AT)
    if isinstance(sent_at, int):
        DELIVERY_SECONDS.observe(max(0.0, time.time() - sent_at / 1e6))
