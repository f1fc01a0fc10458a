"""Hosts as administrators see them, and what they say to them: get no more servers, count as down, be forgotten."""

from collections.abc import Mapping, Sequence
from typing import Any

from muster.base.clock import Clock
from muster.base.errors import Conflict, Invalid, NotFound
from muster.domain.hypervisors import (
    Guest,
    Hypervisor,
    HypervisorQuery,
    Share,
    Statistics,
    Zone,
    id_prefix,
    zones_of,
)
from muster.services.redecide import redeciding_calls
from muster.store import hypervisors as store
from muster.store.engine import Database, Violation


class Hypervisors:
    """The use cases of hosts. A host not heard of for `timeout_s` is down."""

    def __init__(self, database: Database, clock: Clock, timeout_s: float) -> None:
        self._database = database
        self._clock = clock
        self._timeout_s = timeout_s

    def now(self) -> float:
        """The time by which a host's state is told."""
        return self._clock()

    def is_up(self, host: Hypervisor) -> bool:
        """Whether the host answers, as far as is known."""
        return host.is_up(self._clock() - self._timeout_s)

    async def page(self, query: HypervisorQuery) -> list[Hypervisor]:
        """A page of hosts. Raises Invalid for an unknown marker. One query, two with a marker."""
        async with self._database.read() as connection:
            if query.marker is not None and not await store.read(connection, [query.marker]):
                raise Invalid(f"marker [{query.marker}] not found")
            return await store.read_page(connection, query)

    async def get(self, host_id: str | int) -> Hypervisor | None:
        """A host by its id, or by the number that old microversions know it by. One query."""
        prefix = id_prefix(host_id) if isinstance(host_id, int) else None
        async with self._database.read() as connection:
            if isinstance(host_id, str):
                return (await store.read(connection, [host_id])).get(host_id)
            return None if prefix is None else await store.read_by_prefix(connection, prefix)

    async def named(self, hostname: str) -> Hypervisor | None:
        """A host by its name. One query."""
        async with self._database.read() as connection:
            return (await store.read_named(connection, [hostname])).get(hostname)

    async def guests(self, hosts: Sequence[Hypervisor]) -> dict[str, list[Guest]]:
        """The servers on these hosts, by the host's id. One query."""
        async with self._database.read() as connection:
            return await store.read_guests(connection, [host.id for host in hosts])

    async def shares(self, host: Hypervisor) -> list[Share]:
        """What each project's servers take of a host. One query."""
        async with self._database.read() as connection:
            return await store.read_shares(connection, host.id)

    async def statistics(self) -> Statistics:
        """All enabled hosts together. One query."""
        async with self._database.read() as connection:
            return await store.read_statistics(connection)

    async def zones(self) -> list[Zone]:
        """The availability zones. One query."""
        return zones_of(await self.page(HypervisorQuery()))

    @redeciding_calls("hypervisors")
    async def change(self, host: Hypervisor, values: Mapping[str, Any]) -> Hypervisor:
        """Write `disabled`, `disabled_reason`, `forced_down` of a host. Raises NotFound if it is gone meanwhile."""
        async with self._database.write() as connection:
            if not await store.write(connection, host.id, values):
                raise NotFound(f"Compute host {host.hostname} could not be found.", code="compute.host")
            return (await store.read(connection, [host.id]))[host.id]

    @redeciding_calls("hypervisors")
    async def delete(self, host: Hypervisor) -> None:
        """Forget a host until its agent says hello again. Raises Conflict while it holds servers."""
        refusal = Conflict(
            "Unable to delete compute service that is hosting instances. Migrate or delete the instances first.",
            code="compute.host_in_use",
        )
        try:
            async with self._database.write() as connection:
                if not await store.remove(connection, host.id):
                    raise refusal
        except Violation as error:  # a server has come meanwhile
            raise refusal from error
