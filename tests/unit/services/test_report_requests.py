"""Hosts are asked for everything, not too often."""

from collections.abc import Sequence

import pytest

from muster.base.errors import Transient
from muster.bus.memory import MemoryBus
from muster.domain.messages import host_topic
from muster.services.report_requests import ReportRequests


class AwayBus(MemoryBus):
    """Refuses the first publication."""

    refused = False

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        if not self.refused:
            self.refused = True
            raise Transient("away", retry_after_s=1.0)
        await super().publish(messages)


async def test_who_could_not_be_asked_is_asked_when_it_is_tried_again() -> None:
    bus = AwayBus()
    requests = ReportRequests(bus, lambda: 1_000.0)
    with pytest.raises(Transient):
        await requests.ask_everything({"h": 0}, why="gap")
    for _ in range(2):  # the second time it has just been asked
        await requests.ask_everything({"h": 0}, why="gap")
    assert len(bus._topics[host_topic("h")].messages) == 1


async def test_who_does_not_come_further_is_asked_after_ever_longer_pauses_and_others_as_before() -> None:
    """A heartbeat every 5 s is ahead for ten minutes: of a host that is stuck, and of one whose reports come on."""
    bus, now = MemoryBus(), 1_000.0
    requests = ReportRequests(bus, lambda: now)

    def times(host_id: str) -> int:
        return len(bus._topics[host_topic(host_id)].messages)

    for beat in range(120):
        await requests.ask_everything({"stuck": 7, "slow": beat}, why="unreported")
        now += 5.0
    assert times("slow") == 120
    assert times("stuck") == 15  # after 0, 5, 10, 15, 25, 45 and 80 s, then once a minute
    await requests.ask_everything({"stuck": 8}, why="unreported")  # it was mended: asked as if never before
    now += 1.0
    await requests.ask_everything({"stuck": 8}, why="gap")
    assert times("stuck") == 17


async def test_a_bus_that_is_away_makes_no_pause_longer() -> None:
    bus, now = AwayBus(), 1_000.0
    bus.refused = True
    requests = ReportRequests(bus, lambda: now)
    for pause_s in (1.0, 2.0, 4.0):
        await requests.ask_everything({"h": 0}, why="gap")
        now += pause_s
    bus.refused = False
    with pytest.raises(Transient):
        await requests.ask_everything({"h": 0}, why="gap")
    await requests.ask_everything({"h": 0}, why="gap")
    assert len(bus._topics[host_topic("h")].messages) == 4
    now += 7.9
    await requests.ask_everything({"h": 0}, why="gap")
    assert len(bus._topics[host_topic("h")].messages) == 4
