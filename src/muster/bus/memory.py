"""The bus of one process: a queue per topic. What nobody reads is kept up to a bound, then the oldest is dropped."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence

BATCH_LIMIT = 5_000
TOPIC_LIMIT = 100_000


class _Topic:
    def __init__(self) -> None:
        self.messages: deque[bytes] = deque(maxlen=TOPIC_LIMIT)
        self.arrived = asyncio.Event()


class MemorySubscription:
    """Reads one topic; see `bus.protocol.Subscription`."""

    def __init__(self, topic: _Topic) -> None:
        self._topic = topic

    async def next_batch(self) -> list[bytes]:
        while not self._topic.messages:
            self._topic.arrived.clear()
            await self._topic.arrived.wait()
        messages = self._topic.messages
        return [messages.popleft() for _ in range(min(len(messages), BATCH_LIMIT))]

    async def close(self) -> None:
        return None


class MemoryBus:
    """See `bus.protocol.Bus`. Publishing costs an append."""

    def __init__(self) -> None:
        self._topics: defaultdict[str, _Topic] = defaultdict(_Topic)

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        for name, body in messages:
            topic = self._topics[name]
            topic.messages.append(body)
            topic.arrived.set()

    async def subscribe(self, topic: str) -> MemorySubscription:
        return MemorySubscription(self._topics[topic])

    async def close(self) -> None:
        self._topics.clear()
