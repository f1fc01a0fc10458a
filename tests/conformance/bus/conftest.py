"""Every bus that Muster runs on: `buses` is each in turn; each test has topics of its own."""

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from random import Random

import pytest

from muster.bus.memory import BATCH_LIMIT, MemoryBus
from muster.bus.open import open_bus
from muster.bus.protocol import Bus
from tests.engines.rabbitmq import PATIENT

PREFETCH = 400

_names = count()


@pytest.fixture
def prefix() -> str:
    """What the names of a test's queues begin with."""
    return f"test{next(_names)}."


class Buses:
    """Opens the bus as each process would; in memory there is one process, and one bus."""

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._opened: list[Bus] = []
        self.batch_limit = BATCH_LIMIT if url is None else PREFETCH

    def open(self, *, limit: int | None = None) -> Bus:
        """`limit` bounds the topics."""
        if self._url is None:
            if not self._opened:
                self._opened.append(MemoryBus(topic_limit=limit) if limit else MemoryBus())
            return self._opened[0]
        url = self._url + (f"&max_messages={limit}" if limit else "")
        self._opened.append(open_bus(url, f"test {len(self._opened)}", Random(len(self._opened))))
        return self._opened[-1]

    async def close(self) -> None:
        await asyncio.gather(*(bus.close() for bus in self._opened))


@pytest.fixture(params=["memory", "rabbitmq"])
async def buses(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Buses]:
    url = None
    if request.param == "rabbitmq":
        url = f"{request.getfixturevalue('rabbitmq').url}?prefix={prefix}&prefetch={PREFETCH}&{PATIENT}"
    opened = Buses(url)
    try:
        yield opened
    finally:
        await asyncio.shield(opened.close())
