"""What must hold while thousands of servers are up, read through the public API by somebody else than who made them."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from urllib.parse import quote

import msgspec

from muster.bench.records import ServerRecord
from muster.client.api import Api, Call
from muster.client.bodies import Link, ServerAddress
from muster.client.cloud import Service

# The defaults of placement, for memory and processors.
RAM_OVERCOMMIT, CPU_OVERCOMMIT = 1.2, 2.0


class Seen(msgspec.Struct, frozen=True, rename={"host": "OS-EXT-SRV-ATTR:hypervisor_hostname"}):
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


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What one server takes of a host."""

    ram_mib: int
    vcpus: int


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """A host in its cloud's books: what it has, and what is given away of it."""

    hypervisor_hostname: str
    memory_mb: int
    memory_mb_used: int
    vcpus: int
    vcpus_used: int

    def may_give(self, ram_mib: int, vcpus: int) -> bool:
        """Whether so much is within the default overcommits."""
        return ram_mib <= RAM_OVERCOMMIT * self.memory_mb and vcpus <= CPU_OVERCOMMIT * self.vcpus

    def holds(self, servers: int, need: Need) -> bool:
        """Whether so many servers fit, and the books are not beyond what fits either."""
        fits = self.may_give(servers * need.ram_mib, servers * need.vcpus)
        return fits and self.may_give(self.memory_mb_used, self.vcpus_used)


class HostList(msgspec.Struct, frozen=True):
    """GET /os-hypervisors/detail."""

    hypervisors: list[Host]


class Inspection:
    """Looks at the servers of each round, all alike; counts what is wrong over all rounds."""

    def __init__(self, need: Need) -> None:
        self._need = need
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
        call = Call("GET os-hypervisors", "GET", Service.COMPUTE, "/os-hypervisors/detail")
        self._count_hosts((await api.get(call, HostList)).hypervisors, Counter(server.host for server in found))

    def _count_hosts(self, hosts: Sequence[Host], servers_on: Mapping[str | None, int]) -> None:
        unknown = servers_on.keys() - {host.hypervisor_hostname for host in hosts}
        overfull = [host for host in hosts if not host.holds(servers_on.get(host.hypervisor_hostname, 0), self._need)]
        self.overfull_hosts += len(overfull) + len(unknown)
        self.most_on_a_host = max([self.most_on_a_host, *servers_on.values()])


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
