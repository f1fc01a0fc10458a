"""The bus of a cluster: RabbitMQ, a quorum queue per topic.

Invariants: `publish` returns when RabbitMQ has confirmed every message; what a broken connection leaves in doubt is
sent again or delivered again: doubled, never lost silently; one host's queue never holds up the others for long.
"""

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from collections.abc import Set as AbstractSet
from random import Random
from typing import Any

from aiormq.abc import AbstractChannel
from aiormq.exceptions import DeliveryError, PublishError
from pamqp.commands import Basic

from muster.base.errors import Transient
from muster.base.log import get_logger
from muster.base.metrics import PUBLISH_SECONDS
from muster.bus.rabbitmq_link import Link, told
from muster.bus.rabbitmq_queues import declare
from muster.bus.rabbitmq_settings import RabbitSettings
from muster.bus.rabbitmq_subscription import SENT_AT, RabbitSubscription
from muster.domain.messages import CONTROL_TOPIC

log = get_logger(__name__)

_AT_ONCE = 500
#: RabbitMQ lets a connection have 2,047 channels. A subscription has one, and another while its queue is made.
READERS_PER_LINK = 1_000
_PERSISTENT = 2

Messages = Sequence[tuple[str, bytes]]
Confirm = asyncio.Task[Any]


class RabbitBus:
    """See `bus.protocol.Bus`. A connection to publish by, and one for every thousand subscriptions: a publisher that is
    held up must not hold up readers."""

    def __init__(self, settings: RabbitSettings, name: str, rng: Random) -> None:
        self._settings = settings
        self._name = name
        self._rng = rng
        self._writing = Link(settings, f"{name} writes", rng)
        self._opening = asyncio.Lock()
        self._channel: AbstractChannel | None = None
        self._readers: dict[Link, set[RabbitSubscription]] = {}
        self._silent: set[str] = set()

    async def publish(self, messages: Messages) -> None:
        """See the protocol. Transient may also mean that some were taken and some were not.

        A round trip per 500 messages; Transient when no confirm comes for `publish_s`.
        """
        with PUBLISH_SECONDS.time():
            for first in range(0, len(messages), _AT_ONCE):
                await self._publish(messages[first : first + _AT_ONCE])

    async def subscribe(self, topic: str) -> RabbitSubscription:
        """Raises Transient when RabbitMQ is away."""
        link, readers = self._with_room()
        subscription = RabbitSubscription(link, self._settings, topic, self._rng, closed=readers.discard)
        readers.add(subscription)
        try:
            await subscription.listening()
        except BaseException:
            await subscription.close()
            raise
        return subscription

    def away_s(self, since_s: float) -> float:
        """As this process's own connection has it."""
        return self._writing.absence.began_s(since_s)

    async def close(self) -> None:
        readers = [subscription for readers in self._readers.values() for subscription in readers]
        await asyncio.gather(*(subscription.close() for subscription in readers))
        await asyncio.gather(*(link.close() for link in (self._writing, *self._readers)))

    def _with_room(self) -> tuple[Link, set[RabbitSubscription]]:
        """A connection that one more may read by, and who reads by it."""
        for link, readers in self._readers.items():
            if len(readers) < READERS_PER_LINK:
                return link, readers
        link = Link(self._settings, f"{self._name} reads", self._rng)
        return link, self._readers.setdefault(link, set())

    async def _publish(self, messages: Messages) -> None:
        if nowhere := await self._send(messages):  # the first message of a topic that nobody has read yet
            topics = dict.fromkeys(topic for topic, _ in nowhere)
            await declare(await self._writing.soon(), self._settings, topics)
            if await self._send(nowhere):
                raise Transient("A queue was deleted as it was made", retry_after_s=1.0)

    async def _send(self, messages: Messages) -> Messages:
        """Send all, await all confirms; returns those that have no queue."""
        channel = await self._publisher()
        confirms = [asyncio.create_task(self._send_one(channel, topic, body)) for topic, body in messages]
        try:
            await self._confirmed({one: topic for (topic, _), one in zip(messages, confirms, strict=True)})
            late = {topic for (topic, _), one in zip(messages, confirms, strict=True) if not one.done()}
        finally:
            for one in confirms:
                one.cancel()
        outcomes = await asyncio.gather(*confirms, return_exceptions=True)
        self._pass_over(late, others_confirmed=any(isinstance(outcome, Basic.Ack) for outcome in outcomes))
        return await _nowhere([pair for pair in zip(messages, outcomes, strict=True) if pair[0][0] not in late])

    def _send_one(self, channel: AbstractChannel, topic: str, body: bytes) -> Coroutine[Any, Any, Any]:
        properties = Basic.Properties(delivery_mode=_PERSISTENT, headers={SENT_AT: time.time_ns() // 1_000})
        key = self._settings.prefix + topic
        return channel.basic_publish(body, routing_key=key, properties=properties, mandatory=True)

    async def _confirmed(self, confirms: Mapping[Confirm, str]) -> None:
        """Wait for the confirms as long as some come within `publish_s`; for queues that are silent just as long."""
        waiting = {one for one, topic in confirms.items() if topic not in self._silent}
        progress = True
        while waiting and progress:
            done, waiting = await asyncio.wait(waiting, timeout=self._settings.publish_s)
            progress = bool(done)
        for one, topic in confirms.items():
            if one.done():
                self._silent.discard(topic)

    def _pass_over(self, late: AbstractSet[str], *, others_confirmed: bool) -> None:
        """Some queues do not confirm. Raises Transient, unless they are queues of hosts and others do confirm.

        A host that is passed over is behind in its numbers, and is sent everything when its heartbeat shows that. Until
        its queue confirms something, nobody waits for it.
        """
        if not late:
            return
        if CONTROL_TOPIC in late or not others_confirmed:
            self._silent -= late
            raise Transient("RabbitMQ does not confirm", retry_after_s=1.0)
        log.warning("queues passed over", action="bus.silent", topics=sorted(late)[:10], count=len(late))
        self._silent |= late

    async def _publisher(self) -> AbstractChannel:
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                connection = await self._writing.soon()
                self._channel = await told(connection.channel(publisher_confirms=True))
            return self._channel


async def _nowhere(sent: Sequence[tuple[tuple[str, bytes], object]]) -> Messages:
    """The messages that came back for want of a queue. Raises Transient for what was refused or left in doubt."""
    nowhere = []
    for message, outcome in sent:
        if isinstance(outcome, PublishError):
            nowhere.append(message)
        elif isinstance(outcome, DeliveryError):
            raise Transient(f"The topic {message[0]} is full", retry_after_s=1.0) from outcome
        elif isinstance(outcome, BaseException):
            await told(_raising(outcome))
    return nowhere


async def _raising(outcome: BaseException) -> None:
    raise outcome
