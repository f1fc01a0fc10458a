"""What every bus offers."""

from collections.abc import Sequence
from typing import Protocol


class Subscription(Protocol):
    """A reader's end of a topic."""

    async def next_batch(self) -> list[bytes]:
        """All messages that have arrived (at least one; waits for it), in order; at most the bus's batch limit."""
        ...

    async def close(self) -> None: ...


class Bus(Protocol):
    """Named topics. Each message of a topic goes to one of its subscriptions."""

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Send each (topic, body); returns when the bus has taken responsibility for all of them.

        Raises Transient when the bus is away or full. One round trip for the batch.
        """
        ...

    async def subscribe(self, topic: str) -> Subscription: ...

    async def close(self) -> None: ...
