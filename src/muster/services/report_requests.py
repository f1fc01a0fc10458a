"""Hosts are asked to report all their servers, where a report of theirs is missing."""

from collections.abc import Collection

from muster.base.clock import Clock
from muster.base.metrics import RESYNCS
from muster.bus.protocol import Bus
from muster.domain.messages import ReportEverything, encode, host_topic

_ASK_AGAIN_S = 1.0


class ReportRequests:
    """Remembers who was asked when."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._asked: dict[str, float] = {}

    async def ask_everything(self, host_ids: Collection[str], *, why: str) -> None:
        """Ask each at most once a second: what is on its way may be the answer. `why` is how it is counted.

        One publication for all. Raises Transient when the bus is away.
        """
        now = self._clock()
        due = [host_id for host_id in sorted(host_ids) if now - self._asked.get(host_id, 0.0) >= _ASK_AGAIN_S]
        self._asked |= dict.fromkeys(due, now)
        try:
            questions = [(host_topic(host_id), encode(ReportEverything(host_id=host_id))) for host_id in due]
            await self._bus.publish(questions)
        except BaseException:  # they are asked when it is tried again
            for host_id in due:
                self._asked.pop(host_id, None)
            raise
        RESYNCS.labels(why).inc(len(due))
