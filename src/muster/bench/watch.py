"""Watches all servers of a run with one listing per poll, never one request per server.

Who is not listed any more is gone: from then on Nova's GET by id answers 404, since both read the same column.

Invariants: a server keeps the moment of the first poll that showed it ACTIVE or failed, also when nobody waited for it
yet. A server is gone only by a poll that began after its DELETE was accepted.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from muster.base.errors import MusterError
from muster.bench.records import Polling
from muster.client.bodies import Server
from muster.client.listing import Listing
from muster.client.pace import Pace

K = TypeVar("K")
V = TypeVar("V")

SETTLED = frozenset({"ACTIVE", "ERROR", "DELETED", "SOFT_DELETED"})


class Sighting(msgspec.Struct, frozen=True):
    """A settled server, and when a poll first showed it so."""

    server: Server
    at_s: float


class Watcher:
    """`run` is to be a task; the other methods are for the servers' own tasks."""

    def __init__(self, listing: Listing, now: Callable[[], float]) -> None:
        self._listing = listing
        self._now = now
        self._pace = Pace()
        self._wanted = asyncio.Event()
        self._newest_wait_s = 0.0
        self._settled: dict[str, Sighting] = {}
        self._names: dict[str, str] = {}
        self._building: dict[str, asyncio.Future[Sighting]] = {}
        self._census: dict[int, asyncio.Future[dict[str, str]]] = {}
        self._leaving: dict[str, asyncio.Future[float]] = {}
        self._before_s: float | None = None  # when the poll before began; None after a pause
        self._blind_s: list[float] = []  # from the start of one poll to the end of the next
        self._aborted = 0

    async def settled(self, server_id: str) -> Sighting:
        """Wait until a poll shows the server ACTIVE or ERROR (or deleted by somebody else)."""
        if server_id in self._settled:
            return self._settled[server_id]
        return await self._wait(self._building, server_id)

    async def census(self, count: int) -> dict[str, str]:
        """Wait until that many servers of the run have been seen; their names by id."""
        return await self._wait(self._census, count)

    async def gone(self, server_id: str) -> float:
        """Wait until a poll that began after this call does not list the server; the moment of that poll's end."""
        return await self._wait(self._leaving, server_id)

    async def _wait(self, waiting: dict[K, asyncio.Future[V]], key: K) -> V:
        future: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        waiting[key] = future
        self._newest_wait_s = self._now()
        self._wanted.set()
        try:
            return await future
        finally:
            waiting.pop(key, None)

    async def run(self) -> None:
        """Poll for as long as somebody waits; ends only by cancellation. A poll that fails is counted and forgotten."""
        while True:
            if not (self._building or self._census or self._leaving):
                await self._pause()
            began_s = self._now()
            changed = await self._poll(began_s)
            now_s = self._now()
            waited_s = now_s - self._newest_wait_s
            await asyncio.sleep(self._pace.gap_s(now_s - began_s, changed=changed, waited_s=waited_s))

    async def _pause(self) -> None:
        self._wanted.clear()
        self._before_s = None
        await self._wanted.wait()
        self._pace.reset()

    async def _poll(self, began_s: float) -> bool:
        """One poll; whether it showed anything new."""
        leaving = dict(self._leaving)
        try:
            changed = self._see(await self._listing.changed(began_s)) if self._building or self._census else False
            if leaving:
                changed |= self._miss(leaving, await self._listing.present())
        except MusterError:  # in the tally already
            self._aborted += 1
            return False
        if self._before_s is not None:
            self._blind_s.append(self._now() - self._before_s)
        self._before_s = began_s
        return changed

    def _see(self, servers: Iterable[Server]) -> bool:
        changed, now_s = False, self._now()
        for server in servers:
            changed |= server.id not in self._names
            self._names[server.id] = server.name
            if server.status in SETTLED and server.id not in self._settled:
                changed = True
                self._settled[server.id] = Sighting(server, now_s)
                _tell(self._building.get(server.id), self._settled[server.id])
        for count, future in self._census.items():
            if len(self._names) >= count:
                _tell(future, dict(self._names))
        return changed

    def _miss(self, leaving: dict[str, asyncio.Future[float]], present: set[str]) -> bool:
        now_s = self._now()
        gone = [future for server_id, future in leaving.items() if server_id not in present]
        for future in gone:
            _tell(future, now_s)
        return bool(gone)

    def polling(self) -> Polling:
        """How closely was watched so far."""
        mean_s = sum(self._blind_s) / len(self._blind_s) if self._blind_s else 0.0
        return Polling(len(self._blind_s), self._aborted, mean_s, max(self._blind_s, default=0.0))


def _tell(future: asyncio.Future[V] | None, value: V) -> None:
    if future is not None and not future.done():
        future.set_result(value)
