"""Networks: made, listed, changed and deleted. Each network has a segment of its own, given out by a unique key."""

from collections.abc import Collection, Sequence
from random import Random

from msgspec import structs

from muster.base.errors import Stale
from muster.domain.context import Context
from muster.domain.network_errors import network_error
from muster.domain.network_listing import ListQuery
from muster.domain.networks import (
    FLAT,
    MAX_VNI,
    Network,
    NetworkChanges,
    NetworkSettings,
    NewNetwork,
    changed_fields,
    checked_type,
    effective_mtu,
)
from muster.domain.ports import DHCP_OWNER
from muster.domain.quotas import Ask
from muster.domain.subnets import check_mtu
from muster.services.addresses import close_pools
from muster.services.network_access import check_owner, first_refusal, scope_of, seen_network
from muster.services.port_batch import PortBatch
from muster.services.port_work import PortWork
from muster.services.redecide import redeciding
from muster.store import network_agents as agent_store
from muster.store import networks as store
from muster.store import ports as port_store
from muster.store import subnets as subnet_store
from muster.store.engine import Connection, Database, Violation
from muster.store.network_listing import MarkerNotFound
from muster.store.violations import FOREIGN_KEY

_SEEN_BY_HOSTS = frozenset({"mtu", "dns_domain", "admin_state_up"})


class Networks:
    """What can be asked of networks."""

    def __init__(self, database: Database, batch: PortBatch, settings: NetworkSettings) -> None:
        self._database = database
        self._batch = batch
        self._settings = settings

    async def create(self, context: Context, drafts: Sequence[NewNetwork]) -> list[Network]:
        """Make all of these networks, or none. One transaction, about six statements.

        Raises Invalid for types and MTUs that are not offered, Conflict for a segment that is taken, Exhausted.
        """
        kinds = [checked_type(draft, self._settings) for draft in drafts]
        mtus = [effective_mtu(draft.mtu, self._settings) for draft in drafts]

        async def decide() -> list[Network]:
            try:
                async with self._database.write() as connection:
                    return await self._insert(connection, drafts, kinds, mtus)
            except Violation as error:
                if error.constraint == store.SEGMENT_TAKEN:
                    raise Stale("A segment was given out twice at once") from error
                raise

        return await redeciding("networks", decide)

    async def get(self, context: Context, network_id: str) -> Network:
        """One network. Raises NotFound. Three queries."""
        async with self._database.read() as connection:
            return await self._seen(connection, context, network_id)

    async def page(self, context: Context, query: ListQuery) -> list[Network]:
        """A page of the networks that the caller sees. Three queries. Raises NotFound for an unknown marker."""
        async with self._database.read() as connection:
            try:
                found = await store.read_page(connection, query, scope_of(context))
            except MarkerNotFound as error:
                raise network_error("NetworkNotFound", net_id=query.marker) from error
            return await self._with_zones(connection, found)

    async def update(self, context: Context, network_id: str, changes: NetworkChanges) -> Network:
        """Change a network; hosts hear of what concerns them. Raises NotFound, Forbidden, Invalid, Conflict."""
        fields = changed_fields(changes)
        if "mtu" in fields:
            fields["mtu"] = effective_mtu(int(str(fields["mtu"])), self._settings)

        async def decide() -> Network:
            async with self._batch.changes.transaction(self._database) as (connection, telling):
                await store.lock(connection, [network_id])
                network = await self._seen(connection, context, network_id)
                check_owner(context, network.project_id, "update_network")
                if network.shared and fields.get("shared") is False:
                    await self._check_unshare(connection, network)
                if "mtu" in fields:
                    subnets = await subnet_store.read_of_network(connection, network_id)
                    check_mtu(network_id, int(str(fields["mtu"])), subnets)
                await store.change(connection, network_id, fields, self._batch.clock())
                if fields.get("is_default"):
                    await store.unset_default(connection, network_id)
                if _SEEN_BY_HOSTS & fields.keys():
                    await telling.networks_changed([network_id])
                return await self._seen(connection, context, network_id)

        return await redeciding("networks", decide)

    async def delete(self, context: Context, network_id: str) -> None:
        """Delete a network with its subnets and DHCP port. Raises NotFound, Forbidden, Conflict while it has ports."""
        async with self._database.read() as connection:
            network = await self._seen(connection, context, network_id)
        check_owner(context, network.project_id, "delete_network")

        async def decide() -> None:
            try:
                async with self._batch.transaction([network_id], changes_subnets=True) as work:
                    await self._delete(work, network)
            except Violation as error:
                if error.constraint == FOREIGN_KEY:
                    raise network_error("NetworkInUse", net_id=network_id) from error
                raise

        await redeciding("networks", decide)

    async def _insert(
        self, connection: Connection, drafts: Sequence[NewNetwork], kinds: Sequence[str], mtus: Sequence[int]
    ) -> list[Network]:
        await self._check_zones(connection, {hint for draft in drafts for hint in draft.availability_zone_hints})
        refusals = await self._batch.quotas.admit(connection, [Ask(d.project_id, {"network": 1}) for d in drafts])
        if any(refusals):
            raise first_refusal([refusal.resource for refusal in refusals if refusal])
        segments = await self._segments(connection, drafts)
        now = self._batch.clock()
        made = [
            _network(draft, kind, mtu, segment, now)
            for draft, kind, mtu, segment in zip(drafts, kinds, mtus, segments, strict=True)
        ]
        await store.insert_all(connection, made)
        for network in made:
            if network.is_default:
                await store.unset_default(connection, network.id)
        return await self._with_zones(connection, made)

    async def _segments(self, connection: Connection, drafts: Sequence[NewNetwork]) -> list[int]:
        """A segment for each draft: the one asked for, else one drawn at random that no network has."""
        asked = [draft.segment_id for draft in drafts if draft.segment_id is not None]
        taken = await store.taken_segments(connection, asked) if asked else set()
        if taken or len(set(asked)) < len(asked):
            raise network_error("TunnelIdInUse", tunnel_id=min(taken or set(asked)))
        drawn = _draw(self._batch.rng, len(drafts) - len(asked), set(asked))
        not_free = await store.taken_segments(connection, drawn)
        free = [segment for segment in drawn if segment not in not_free]
        if len(free) < len(drafts) - len(asked):
            raise Stale("A drawn segment is taken")
        return [draft.segment_id if draft.segment_id is not None else free.pop() for draft in drafts]

    async def _check_zones(self, connection: Connection, hints: Collection[str]) -> None:
        if unknown := sorted(set(hints) - set(await agent_store.read_zones(connection) if hints else ())):
            raise network_error("AvailabilityZoneNotFound", availability_zone=unknown[0])

    async def _check_unshare(self, connection: Connection, network: Network) -> None:
        users = await port_store.projects_on_network(connection, network.id)
        if users - {network.project_id}:
            raise network_error("InvalidSharedSetting", network=network.name)

    async def _delete(self, work: PortWork, network: Network) -> None:
        connection = work.connection
        ports = await port_store.read_of_network(connection, network.id)
        if any(owner != DHCP_OWNER for _, owner, _ in ports):
            raise network_error("NetworkInUse", net_id=network.id)
        subnets = await subnet_store.read_of_network(connection, network.id)
        freed = [Ask(subnet.project_id, {"subnet": 1}) for subnet in subnets]
        await self._batch.quotas.give_back(connection, [Ask(network.project_id, {"network": 1}), *freed])
        await work.remove([port_id for port_id, _, _ in ports])
        for subnet in subnets:
            await close_pools(connection, subnet.id)
        await subnet_store.remove(connection, [subnet.id for subnet in subnets])
        if not await store.remove(connection, network.id):
            raise network_error("NetworkNotFound", net_id=network.id)

    async def _seen(self, connection: Connection, context: Context, network_id: str) -> Network:
        network = seen_network(await store.read(connection, [network_id]), network_id, context)
        return (await self._with_zones(connection, [network]))[0]

    async def _with_zones(self, connection: Connection, networks: Sequence[Network]) -> list[Network]:
        """A network with a subnet is served in every zone that has a host: each host serves its own guests."""
        if not any(network.subnet_ids for network in networks):
            return [*networks]
        zones = tuple(await agent_store.read_zones(connection))
        return [structs.replace(one, availability_zones=zones) if one.subnet_ids else one for one in networks]


def _draw(rng: Random, count: int, taken: set[int]) -> list[int]:
    drawn: set[int] = set()
    while len(drawn) < count:
        segment = rng.randint(1, MAX_VNI)
        if segment not in taken:
            drawn.add(segment)
    return sorted(drawn)


def _network(draft: NewNetwork, kind: str, mtu: int, segment: int, now: float) -> Network:
    return Network(
        id=draft.id,
        project_id=draft.project_id,
        name=draft.name,
        description=draft.description,
        admin_state_up=draft.admin_state_up,
        shared=draft.shared,
        router_external=draft.router_external,
        is_default=draft.is_default,
        port_security_enabled=draft.port_security_enabled,
        mtu=mtu,
        network_type=kind,
        physical_network=draft.physical_network if kind == FLAT else None,
        segment_id=segment,
        dns_domain=draft.dns_domain,
        availability_zone_hints=draft.availability_zone_hints,
        revision=1,
        created_at=now,
        updated_at=now,
    )
