"""Lock services that are wrong, and a worker that stops dead while it holds a lock."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import msgspec

from muster.base.ids import new_uuid
from muster.domain.ports import NewPort
from muster.locks.open import open_locks
from muster.locks.protocol import Grant, LockService
from muster.services.port_work import PortSettings
from muster.store.engine import Database
from tests.conformance.cluster.worker import decided_again
from tests.conformance.store.network_cloud import ADMIN, network_cloud

# Without leases all addresses are decided under a lock.
UNDER_LOCKS = PortSettings(lease_s=0)


class LyingLocks:
    """'You have it', to everybody at once. `overlaps` counts how often that was a lie."""

    def __init__(self, tokens: Sequence[int] | None = None) -> None:
        """`tokens` is given out over and over; without it they grow."""
        self._tokens = tokens
        self._asked = count(1)
        self._holders: dict[str, int] = {}
        self.overlaps = 0

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[Grant]:
        async with self.hold_all([name]) as grants:
            yield grants[name]

    @asynccontextmanager
    async def hold_all(self, names: Sequence[str]) -> AsyncIterator[dict[str, Grant]]:
        turn = next(self._asked)
        token = self._tokens[turn % len(self._tokens)] if self._tokens else turn
        for name in names:
            self._holders[name] = self._holders.get(name, 0) + 1
            self.overlaps += self._holders[name] > 1
        try:
            yield {name: Grant(name, token) for name in names}
        finally:
            for name in names:
                self._holders[name] -= 1

    async def close(self) -> None:
        return None


class StoppingLocks:
    """Stops its own process as soon as it holds a lock, once; and never hears that the lock was lost meanwhile."""

    def __init__(self, locks: LockService) -> None:
        self._locks = locks
        self._stops = True

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[Grant]:
        async with self.hold_all([name]) as grants:
            yield grants[name]

    @asynccontextmanager
    async def hold_all(self, names: Sequence[str]) -> AsyncIterator[dict[str, Grant]]:
        async with self._locks.hold_all(names) as grants:
            if self._stops:
                self._stops = False
                print("held", flush=True)  # noqa: T201 - the parent waits for it
                os.kill(os.getpid(), signal.SIGSTOP)
            yield {name: Grant(name, grant.token) for name, grant in grants.items()}

    async def close(self) -> None:
        await self._locks.close()


class Outcome(msgspec.Struct):
    """What became of the port of the process that stopped."""

    address: str
    decided_again: float


async def _stop_while_holding(locks_url: str, database_url: str, network_id: str) -> None:
    locks = StoppingLocks(await open_locks(locks_url, "stopping", Path("/nonexistent")))
    database = Database(database_url)
    async with network_cloud(database, Path("/nonexistent"), "stopping", locks, UNDER_LOCKS) as worker:
        port = await worker.ports.create(ADMIN, NewPort(id=new_uuid(), project_id="p1", network_id=network_id))
    outcome = Outcome(port.fixed_ips[0].ip_address, decided_again())
    print(msgspec.json.encode(outcome).decode(), flush=True)  # noqa: T201 - the parent reads it
    await database.close()


if __name__ == "__main__":
    asyncio.run(_stop_while_holding(*sys.argv[1:]))
