"""Removes whatever servers of a run still exist, however the run ended.

Invariant: servers are found by the run's random prefix, so that one whose POST was never answered is found too. They
are looked for until none has shown for `quiet_s`: a request that was cut off may still be at work in the cloud.
"""

import asyncio
from collections.abc import Callable
from urllib.parse import quote

from muster.base.errors import MusterError, NotFound, Transient, Unauthenticated
from muster.client.api import Api, Call
from muster.client.cloud import Service
from muster.client.listing import Listing

PAUSE_S = 0.5
MOST_IN_FLIGHT = 64
# A server that is still there is asked to go again after so many listings.
ASK_AGAIN = 20


class Sweep:
    """Deletes servers and waits until they are gone."""

    def __init__(self, api: Api, listing: Listing, now: Callable[[], float]) -> None:
        self._api = api
        self._listing = listing
        self._now = now
        self._in_flight = asyncio.Semaphore(MOST_IN_FLIGHT)
        self._faults: dict[str, str] = {}

    async def run(self, *, quiet_s: float, timeout_s: float) -> dict[str, str]:
        """Remove all; those that could not be removed in time, by id, each with the reason.

        Raises MusterError if the servers cannot even be listed. Cost: a listing per 0.5 s, a DELETE per server.
        """
        asked: dict[str, int] = {}
        end_s = self._now() + timeout_s
        quiet_until_s = self._now() + quiet_s
        while True:
            present = await self._list(end_s)
            if present:
                quiet_until_s = self._now() + quiet_s
            elif self._now() >= quiet_until_s:
                return {}
            if self._now() >= end_s:
                return {one: self._faults.get(one, f"still there after {timeout_s:g} s") for one in present}
            await self._ask(present, asked)
            await asyncio.sleep(PAUSE_S)

    async def _list(self, end_s: float) -> set[str]:
        """Once more with a new token where the cloud takes the old one no more; again and again while it is away."""
        is_refused = False
        while True:
            try:
                return await self._listing.present()
            except Unauthenticated:
                if is_refused:
                    raise
                is_refused = True
            except Transient:
                if self._now() >= end_s:
                    raise
            self._api.tally.retries["GET servers"] += 1
            await asyncio.sleep(PAUSE_S)

    async def _ask(self, present: set[str], asked: dict[str, int]) -> None:
        due = [one for one in present if asked.get(one, 0) % ASK_AGAIN == 0]
        for one in present:
            if one in due and one in asked:
                self._api.tally.retries["DELETE servers"] += 1
            asked[one] = asked.get(one, 0) + 1
        async with asyncio.TaskGroup() as group:
            for one in due:
                group.create_task(self._delete(one))

    async def _delete(self, server_id: str) -> None:
        path = f"/servers/{quote(server_id, safe='')}"
        try:
            async with self._in_flight:
                await self._api.send(Call("DELETE servers", "DELETE", Service.COMPUTE, path, ok=(202, 204)))
        except NotFound:
            pass
        except MusterError as error:
            self._faults[server_id] = error.message
