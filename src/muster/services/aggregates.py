"""Host aggregates: administrators' names for sets of hosts, and the zones that these give them."""

from collections.abc import Mapping

from muster.base.clock import Clock
from muster.base.errors import Conflict, Invalid, NotFound
from muster.domain.aggregates import ZONE_KEY, Aggregate, NewAggregate, check_zone
from muster.domain.hypervisors import Hypervisor
from muster.services.redecide import redeciding_calls
from muster.store import aggregates as store
from muster.store import hypervisors as host_store
from muster.store.engine import Connection, Database, Violation


class Aggregates:
    """The use cases of aggregates. There are few; changes of them go one after the other."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def all(self) -> list[Aggregate]:
        """All aggregates. Two queries."""
        async with self._database.read() as connection:
            return await store.read(connection)

    async def get(self, aggregate_id: int) -> Aggregate:
        """An aggregate. Raises NotFound. Two queries."""
        async with self._database.read() as connection:
            return _one(await store.read(connection, aggregate_id), aggregate_id)

    @redeciding_calls("aggregates")
    async def create(self, new: NewAggregate) -> Aggregate:
        """Make an aggregate. Raises Conflict for a name that is taken."""
        try:
            async with self._database.write() as connection:
                number = await store.insert_aggregate(connection, new, self._clock())
                [made] = await store.read(connection, number)
        except Violation as error:
            raise _taken(new.name) from error
        return made

    @redeciding_calls("aggregates")
    async def update(self, aggregate_id: int, name: str | None, zone: str | None, *, rezone: bool) -> Aggregate:
        """Change an aggregate's name, and with `rezone` its zone. Raises NotFound, Conflict."""
        try:
            async with self._database.write() as connection:
                found = await store.read(connection, lock=True)
                aggregate = _one(found, aggregate_id)
                values = {} if name is None else {"name": name}
                await store.write(connection, aggregate_id, {**values, "updated_at": self._clock()})
                if rezone:
                    await self._rezone(connection, aggregate, zone, found)
                [changed] = await store.read(connection, aggregate_id)
        except Violation as error:
            raise _taken(name or "") from error
        return changed

    @redeciding_calls("aggregates")
    async def set_metadata(self, aggregate_id: int, metadata: Mapping[str, str | None]) -> Aggregate:
        """Add to an aggregate's metadata, or with None take from it; the zone is one of its keys.

        Raises NotFound, Conflict.
        """
        async with self._database.write() as connection:
            found = await store.read(connection, lock=True)
            aggregate = _one(found, aggregate_id)
            merged = {**aggregate.metadata, **{key: metadata[key] for key in metadata if key != ZONE_KEY}}
            kept = {key: value for key, value in merged.items() if value is not None}
            await store.write(connection, aggregate_id, {"metadata": kept, "updated_at": self._clock()})
            if ZONE_KEY in metadata:
                await self._rezone(connection, aggregate, metadata[ZONE_KEY], found)
            [changed] = await store.read(connection, aggregate_id)
        return changed

    @redeciding_calls("aggregates")
    async def add_host(self, aggregate_id: int, hostname: str) -> Aggregate:
        """Put a host into an aggregate, and so into its zone. Raises NotFound, Conflict."""
        try:
            async with self._database.write() as connection:
                found = await store.read(connection, lock=True)
                aggregate = _one(found, aggregate_id)
                host = await _host(connection, hostname)
                check_zone(aggregate.availability_zone, [host], _others(found, aggregate, {hostname}))
                await store.add_host(connection, aggregate_id, host.id)
                await store.apply_zones(connection, [host.id])
                [changed] = await store.read(connection, aggregate_id)
        except Violation as error:
            message = f"Aggregate {aggregate_id} already has host {hostname}."
            raise Conflict(message, code="compute.aggregate_host") from error
        return changed

    @redeciding_calls("aggregates")
    async def remove_host(self, aggregate_id: int, hostname: str) -> Aggregate:
        """Take a host out of an aggregate. Raises NotFound, Conflict while its zone would change with servers in it."""
        async with self._database.write() as connection:
            aggregate = _one(await store.read(connection, lock=True), aggregate_id)
            host = await _host(connection, hostname)
            if not await store.remove_host(connection, aggregate_id, host.id):
                message = f"Aggregate {aggregate_id} has no host {hostname}."
                raise NotFound(message, code="compute.aggregate_host")
            if aggregate.availability_zone is not None and host.servers_used:
                raise Conflict(f"Host {hostname} has servers in zone {aggregate.availability_zone}.")
            await store.apply_zones(connection, [host.id])
            [changed] = await store.read(connection, aggregate_id)
        return changed

    @redeciding_calls("aggregates")
    async def delete(self, aggregate_id: int) -> None:
        """Delete an aggregate. Raises NotFound, Invalid while it has hosts."""
        async with self._database.write() as connection:
            aggregate = _one(await store.read(connection, aggregate_id, lock=True), aggregate_id)
            if aggregate.hostnames:
                raise Invalid(f"Cannot delete aggregate {aggregate_id}; Reason: Host aggregate is not empty.")
            await store.remove(connection, aggregate_id)

    async def _rezone(
        self, connection: Connection, aggregate: Aggregate, zone: str | None, found: list[Aggregate]
    ) -> None:
        names = set(aggregate.hostnames)
        hosts = list((await host_store.read_named(connection, names)).values())
        check_zone(zone, hosts, _others(found, aggregate, names))
        if zone is None and any(host.servers_used for host in hosts):
            raise Conflict("One or more hosts contain instances in this zone.", code="compute.aggregate_zone")
        await store.write(connection, aggregate.id, {"availability_zone": zone})
        await store.apply_zones(connection, [host.id for host in hosts])


def _others(found: list[Aggregate], aggregate: Aggregate, hostnames: set[str]) -> list[Aggregate]:
    return [one for one in found if one.id != aggregate.id and hostnames & set(one.hostnames)]


def _one(found: list[Aggregate], aggregate_id: int) -> Aggregate:
    for aggregate in found:
        if aggregate.id == aggregate_id:
            return aggregate
    raise NotFound(f"Aggregate {aggregate_id} could not be found.", code="compute.aggregate")


async def _host(connection: Connection, hostname: str) -> Hypervisor:
    host = (await host_store.read_named(connection, [hostname])).get(hostname)
    if host is None:
        raise NotFound(f"Compute host {hostname} could not be found.", code="compute.host")
    return host


def _taken(name: str) -> Conflict:
    return Conflict(f"Aggregate {name} already exists.", code="compute.aggregate_name")
