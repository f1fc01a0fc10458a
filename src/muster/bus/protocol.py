"""What every bus offers."""

from collections.abc import Sequence
from typing import Protocol


class Subscription(Protocol):
    """A reader's end of a topic."""

    async def next_batch(self) -> list[bytes]:
        """All messages that have arrived (at least one; waits for it), in order; at most the bus's batch limit.

        Asking for the next batch says that the one before is done with. What its reader was not done with when it died
        goes to another, or again to it.
        """
        ...

    async def close(self) -> None: ...


class Bus(Protocol):
    """Named topics. Each message of a topic goes to one of its subscriptions.

    The control topic goes to one of them for as long as that one is there, so that what a host says is read in its
    order; then, with what that one was not done with, to another.

    Topics are bounded. The control topic, full, refuses: who reports slows down. Any other drops its oldest: a host
    that does not read must not hold up who writes to all hosts, and finds by the numbers what it missed.
    """

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Send each (topic, body); returns when the bus has taken responsibility for all of them.

        Raises Transient when the bus is away or full. One round trip for the batch.
        """
        ...

    async def subscribe(self, topic: str) -> Subscription:
        """Listen. Raises Transient when the bus is away; later it is waited for."""
        ...

    def away_s(self, since_s: float) -> float:
        """How long ago its last absence began, if it lasts, or ended less than `since_s` ago; else 0.

        So long nobody may have been heard, whoever spoke: silence says nothing of them.
        """
        ...

    async def close(self) -> None: ...
