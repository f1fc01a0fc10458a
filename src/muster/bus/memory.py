"""The bus of one process: a queue per topic, bounded as the protocol says."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence

from muster.base.errors import Transient
from muster.domain.messages import CONTROL_TOPIC

BATCH_LIMIT = 5_000
TOPIC_LIMIT = 100_000


class _Topic:
    """`readers` take turns where the topic goes to one at a time: the first of them has it."""

    def __init__(self, limit: int) -> None:
        self.messages: deque[bytes] = deque(maxlen=limit)
        self.changed = asyncio.Event()
        self.readers: list[MemorySubscription] = []


class MemorySubscription:
    """Reads one topic; see `bus.protocol.Subscription`."""

    def __init__(self, topic: _Topic, *, alone: bool) -> None:
        self._topic = topic
        self._alone = alone
        topic.readers.append(self)

    async def next_batch(self) -> list[bytes]:
        topic = self._topic
        while not topic.messages or (self._alone and topic.readers[0] is not self):
            topic.changed.clear()
            await topic.changed.wait()
        messages = topic.messages
        return [messages.popleft() for _ in range(min(len(messages), BATCH_LIMIT))]

    async def close(self) -> None:
        if self in self._topic.readers:
            self._topic.readers.remove(self)
            self._topic.changed.set()


class MemoryBus:
    """See `bus.protocol.Bus`. Publishing costs an append."""

    def __init__(self, *, topic_limit: int = TOPIC_LIMIT) -> None:
        self._topics: defaultdict[str, _Topic] = defaultdict(lambda: _Topic(topic_limit))

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        for name, body in messages:
            topic = self._topics[name]
            if name == CONTROL_TOPIC and len(topic.messages) == topic.messages.maxlen:
                raise Transient(f"The topic {name} is full", retry_after_s=1.0)
            topic.messages.append(body)
            topic.changed.set()

    def away_s(self, since_s: float) -> float:
        """Never: it is part of the process."""
        return 0.0

    async def subscribe(self, topic: str) -> MemorySubscription:
        return MemorySubscription(self._topics[topic], alone=topic == CONTROL_TOPIC)

    async def close(self) -> None:
        self._topics.clear()
