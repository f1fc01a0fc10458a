"""What must hold while thousands of servers are up, read through the public API by somebody else than who made them."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from urllib.parse import quote

import msgspec

from muster.bench.api import Api, Call
from muster.bench.bodies import Link, ServerAddress
from muster.bench.cloud import Service
from muster.bench.records import ServerRecord


class Seen(msgspec.Struct, frozen=True, rename={"host": "OS-EXT-SRV-ATTR:host"}):
    """A server as its cloud's administrator sees it."""

    id: str
    name: str
    status: str
    host: str | None = None
    addresses: dict[str, list[ServerAddress]] = {}


class SeenPage(msgspec.Struct, frozen=True):
    """One page of a listing."""

    servers: list[Seen]
    servers_links: list[Link] = []


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What one host may hold of servers of one flavor, by the default overcommits: memory 1.2, CPU 2.0."""

    ram_mib: int
    vcpus: int

    def holds(self, servers: int, flavor: "Capacity") -> bool:
        """Whether so many servers of the flavor fit."""
        return servers * flavor.ram_mib <= 1.2 * self.ram_mib and servers * flavor.vcpus <= 2.0 * self.vcpus


class Inspection:
    """Looks at the servers of each round; counts what is wrong over all rounds."""

    def __init__(self, host: Capacity, flavor: Capacity) -> None:
        self._host = host
        self._flavor = flavor
        self.missing = 0
        self.not_active = 0
        self.shared_addresses = 0
        self.overfull_hosts = 0
        self.most_on_a_host = 0

    async def look(self, api: Api, records: Sequence[ServerRecord]) -> None:
        """Read all servers of the round and count."""
        prefix = records[0].name.rpartition("-")[0]
        found = [server async for server in listing(api, prefix)]
        known = {record.id for record in records}
        self.missing += len(known - {server.id for server in found})
        self.not_active += sum(server.status != "ACTIVE" for server in found)
        given = Counter(one.addr for server in found for ones in server.addresses.values() for one in ones)
        self.shared_addresses += sum(times > 1 for times in given.values()) + max(0, len(found) - len(given))
        self._count_hosts(Counter(server.host for server in found if server.host))

    def _count_hosts(self, on_hosts: Mapping[str, int]) -> None:
        self.overfull_hosts += sum(not self._host.holds(servers, self._flavor) for servers in on_hosts.values())
        self.most_on_a_host = max([self.most_on_a_host, *on_hosts.values()])


async def listing(api: Api, prefix: str) -> AsyncIterator[Seen]:
    """All servers whose names begin with the prefix, page by page."""
    marker = ""
    while True:
        path = f"/servers/detail?name={quote(prefix, safe='')}{marker}"
        page = await api.get(Call("GET servers/detail", "GET", Service.COMPUTE, path), SeenPage)
        for server in page.servers:
            yield server
        if not page.servers or not any(link.rel == "next" for link in page.servers_links):
            return
        marker = f"&marker={page.servers[-1].id}"
