"""Lists the servers of a run, whole or only those that changed, page by page.

Servers of a run are found by their names' prefix, which is random: also those whose POST was never answered.
"""

from collections.abc import AsyncIterator
from urllib.parse import quote

from muster.base.units import iso, parse_iso
from muster.client.api import Api, Call
from muster.client.bodies import Server, ServerList
from muster.client.cloud import Service

# Changes are asked for from this long before the newest one seen: API nodes' clocks and commits are not quite in step.
OVERLAP_S = 2.0
FULL_EVERY_S = 10.0


class Listing:
    """The servers whose names begin with `prefix`. Times are the cloud's own, read from its answers."""

    def __init__(self, api: Api, prefix: str) -> None:
        self._api = api
        self._prefix = prefix
        self._newest_s: float | None = None
        self._full_at_s = float("-inf")

    async def changed(self, now_s: float) -> list[Server]:
        """The servers, with details, that changed since the call before; every `FULL_EVERY_S` all of them.

        A server may be told twice. Deleted ones may be among them, with status DELETED. Cost: one request per page.
        """
        full = self._newest_s is None or now_s - self._full_at_s >= FULL_EVERY_S
        since = "" if full or self._newest_s is None else f"&changes-since={iso(self._newest_s - OVERLAP_S)}"
        found = [server async for server in self._pages("GET servers/detail", "/servers/detail", since)]
        for server in found:  # only after the last page: an aborted listing must not move the mark
            if server.updated is not None:
                self._newest_s = max(self._newest_s or 0.0, parse_iso(server.updated))
        if full:
            self._full_at_s = now_s
        return found

    async def whole(self) -> list[Server]:
        """All of them, with details. Cost: one request per page."""
        return [server async for server in self._pages("GET servers/detail", "/servers/detail", "")]

    async def present(self) -> set[str]:
        """The ids of those that exist. Cost: one request per page, without details."""
        return {server.id async for server in self._pages("GET servers", "/servers", "")}

    async def _pages(self, what: str, path: str, filters: str) -> AsyncIterator[Server]:
        marker = ""
        while True:
            query = f"?name={quote(self._prefix, safe='')}{filters}{marker}"
            page = await self._api.get(Call(what, "GET", Service.COMPUTE, path + query), ServerList)
            for server in page.servers:
                if server.name.startswith(self._prefix):  # the filter is a regular expression or a part of the name
                    yield server
            if not page.servers or not any(link.rel == "next" for link in page.servers_links):
                return
            marker = f"&marker={quote(page.servers[-1].id, safe='')}"
