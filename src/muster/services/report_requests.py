"""Hosts are asked to report all their servers, where a report of theirs is missing.

A host whose answer could not be counted, since a server of it cannot be ended (`servers.stuck`), seems to be missing
one with each heartbeat and each report. So who was asked and has not come further is asked again after longer pauses.
"""

from collections.abc import Mapping

from msgspec import Struct

from muster.base.clock import Clock
from muster.base.metrics import RESYNCS
from muster.bus.protocol import Bus
from muster.domain.messages import ReportEverything, encode, host_topic

_ASK_AGAIN_S = 1.0
_ASK_AGAIN_MAX_S = 60.0


class _Asked(Struct, frozen=True):
    """When a host was asked, how far its reports had come then, and when it may be asked next if they are there yet."""

    at: float
    reached: int
    again_at: float


class ReportRequests:
    """Remembers who was asked when."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._asked: dict[str, _Asked] = {}

    async def ask_everything(self, reached: Mapping[str, int], *, why: str) -> None:
        """Ask hosts, by how far their reports have come: each at most once a second, for what is on its way may be the
        answer; one that has not come further since after twice as long each time, up to a minute. `why` is how it is
        counted.

        One publication for all. Raises Transient when the bus is away.
        """
        now = self._clock()
        due = [host_id for host_id in sorted(reached) if self._is_due(host_id, reached[host_id], now)]
        before = {host_id: self._asked.get(host_id) for host_id in due}
        for host_id in due:
            self._asked[host_id] = _asked(before[host_id], reached[host_id], now)
        try:
            questions = [(host_topic(host_id), encode(ReportEverything(host_id=host_id))) for host_id in due]
            await self._bus.publish(questions)
        except BaseException:  # they are asked when it is tried again
            for host_id, asked in before.items():
                if asked is None:
                    self._asked.pop(host_id, None)
                else:
                    self._asked[host_id] = asked
            raise
        RESYNCS.labels(why).inc(len(due))

    def _is_due(self, host_id: str, reached: int, now: float) -> bool:
        asked = self._asked.get(host_id)
        if asked is None:
            return True
        return now >= (asked.again_at if asked.reached == reached else asked.at + _ASK_AGAIN_S)


def _asked(before: _Asked | None, reached: int, now: float) -> _Asked:
    if before is None or before.reached != reached:
        return _Asked(now, reached, now + _ASK_AGAIN_S)
    return _Asked(now, reached, now + min(2 * (before.again_at - before.at), _ASK_AGAIN_MAX_S))
