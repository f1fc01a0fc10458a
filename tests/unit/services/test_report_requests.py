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
        await requests.ask_everything({"h"}, why="gap")
    for _ in range(2):  # the second time it has just been asked
        await requests.ask_everything({"h"}, why="gap")
    assert len(bus._topics[host_topic("h")].messages) == 1
