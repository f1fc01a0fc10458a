"""Reading what hosts say."""

import asyncio
from typing import Any

from muster.base.errors import Transient
from muster.bus.memory import MemoryBus, MemorySubscription
from muster.services.dispatcher import Dispatcher
from muster.services.host_reports import HostReports


class AwayBus(MemoryBus):
    """Away for the first three who listen."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.listened = asyncio.Event()

    async def subscribe(self, topic: str) -> MemorySubscription:
        self.asked += 1
        if self.asked <= 3:
            raise Transient("away", retry_after_s=0.001)
        self.listened.set()
        return await super().subscribe(topic)


async def test_a_bus_that_is_away_at_the_start_is_waited_for() -> None:
    bus = AwayBus()
    nothing: Any = None  # is used before a message
    reports = HostReports(nothing, bus, lambda: 0.0, Dispatcher(nothing, bus, lambda: 0.0), nothing)
    reading = asyncio.create_task(reports.run())
    await asyncio.wait_for(bus.listened.wait(), 300)
    assert not reading.done()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert bus.asked == 4
