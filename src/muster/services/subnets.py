"""Subnets: made, listed, changed and deleted, with their pools and the DHCP port's address, in one transaction each.

A network's subnets change one after the other (its row is locked), so two never overlap and a network never has two
DHCP ports. Rows that many transactions change are taken in one order everywhere, so that they do not block each other
for good: network, usages, security groups, servers, hosts, usages of ports.
"""

from collections.abc import Sequence

from msgspec import structs

from muster.base.errors import MusterError
from muster.domain.addresses import eui64
from muster.domain.context import Context
from muster.domain.network_errors import network_error
from muster.domain.network_listing import ListQuery
from muster.domain.networks import changed_fields
from muster.domain.port_batch import Want
from muster.domain.ports import DHCP_OWNER
from muster.domain.quotas import Ask
from muster.domain.subnets import (
    AUTO_MODES,
    NewSubnet,
    Subnet,
    SubnetChanges,
    check,
    check_mtu,
    check_overlap,
    chosen_from,
    completed,
)
from muster.services.addresses import Asker, allocate, change_pools, close_pools, open_pools
from muster.services.dhcp_ports import DhcpPorts
from muster.services.network_access import check_owner, first_refusal, scope_of, seen_network
from muster.services.port_batch import PortBatch
from muster.services.port_work import PortWork
from muster.services.redecide import redeciding, seeing_what_went
from muster.store import networks as network_store
from muster.store import ports as port_store
from muster.store import server_ports
from muster.store import subnets as store
from muster.store.engine import Connection, Database
from muster.store.network_listing import MarkerNotFound


class Subnets:
    """What can be asked of subnets."""

    def __init__(self, database: Database, batch: PortBatch) -> None:
        self._database = database
        self._batch = batch
        self._dhcp_ports = DhcpPorts(batch)

    async def create(self, context: Context, drafts: Sequence[NewSubnet]) -> list[Subnet]:
        """Make all of these subnets, or none. One transaction, about thirty statements.

        Raises Invalid and Conflict with Neutron's types, NotFound and Forbidden for the network, Exhausted.
        """
        now = self._batch.clock()
        made = [completed(draft, now) for draft in drafts]
        network_ids = sorted({subnet.network_id for subnet in made})

        async def decide() -> list[Subnet]:
            async with self._batch.transaction(network_ids, changes_subnets=True) as work:
                await self._check_networks(work.connection, context, made)
                await self._insert(work, made)
                found = await store.read(work.connection, [subnet.id for subnet in made])
            return [found[subnet.id] for subnet in made]

        return await redeciding("subnets", seeing_what_went(decide))  # a port may go before it has its new address

    async def get(self, context: Context, subnet_id: str) -> Subnet:
        """One subnet. Raises NotFound. Five queries."""
        async with self._database.read() as connection:
            return await self._seen(connection, context, subnet_id)

    async def page(self, context: Context, query: ListQuery) -> list[Subnet]:
        """A page of the subnets that the caller sees. Two queries. Raises NotFound for an unknown marker."""
        async with self._database.read() as connection:
            try:
                return await store.read_page(connection, query, scope_of(context))
            except MarkerNotFound as error:
                raise network_error("SubnetNotFound", subnet_id=query.marker) from error

    async def update(self, context: Context, subnet_id: str, changes: SubnetChanges) -> Subnet:
        """Change a subnet; hosts hear of it. Raises NotFound, Forbidden, Invalid, Conflict as Neutron does."""
        subnet = await self._own(context, subnet_id, "update_subnet")
        fields = changed_fields(changes)

        async def decide() -> Subnet:
            async with self._batch.transaction([subnet.network_id], changes_subnets=True) as work:
                before = await self._seen(work.connection, context, subnet_id)
                after = structs.replace(before, **fields)
                check(after)
                await store.change(work.connection, subnet_id, fields, self._batch.clock())
                if after.allocation_pools != before.allocation_pools:
                    await change_pools(work.connection, subnet_id, chosen_from(after))
                await self._settled(work, subnet.network_id)
                return await self._seen(work.connection, context, subnet_id)

        return await redeciding("subnets", decide)

    async def delete(self, context: Context, subnet_id: str) -> None:
        """Delete a subnet; its DHCP address goes with it. Raises NotFound, Forbidden, Conflict while ports use it."""
        subnet = await self._own(context, subnet_id, "delete_subnet")

        async def decide() -> None:
            async with self._batch.transaction([subnet.network_id], changes_subnets=True) as work:
                await self._delete(work, await self._seen(work.connection, context, subnet_id))

        await redeciding("subnets", decide)

    async def _insert(self, work: PortWork, made: Sequence[Subnet]) -> None:
        connection = work.connection
        refusals = await self._batch.quotas.admit(connection, [Ask(s.project_id, {"subnet": 1}) for s in made])
        if any(refusals):
            raise first_refusal([refusal.resource for refusal in refusals if refusal])
        await self._check_overlaps(connection, made)
        await store.insert_all(connection, made)
        for subnet in made:
            await open_pools(connection, subnet.id, chosen_from(subnet))
        for network_id in sorted({subnet.network_id for subnet in made}):
            await self._settled(work, network_id)
        for subnet in made:
            if subnet.ipv6_address_mode in AUTO_MODES:
                await self._give_to_all(work, subnet)

    async def _check_overlaps(self, connection: Connection, made: Sequence[Subnet]) -> None:
        """Read behind the networks' row locks: what another transaction has just added counts."""
        cidrs: dict[str, list[str]] = {}
        for network_id in {subnet.network_id for subnet in made}:
            cidrs[network_id] = [subnet.cidr for subnet in await store.read_of_network(connection, network_id)]
        for subnet in made:
            check_overlap(subnet.cidr, subnet.network_id, cidrs[subnet.network_id])
            cidrs[subnet.network_id].append(subnet.cidr)

    async def _settled(self, work: PortWork, network_id: str, *, without: Subnet | None = None) -> None:
        """What follows each change of a network's subnets: its DHCP port, its revision, its hosts."""
        await self._dhcp_ports.settle(work, network_id, without=[without.id] if without else ())
        gone = without.revision if without else 0
        await network_store.touch(work.connection, [network_id], self._batch.clock(), gone=gone)
        await work.telling.networks_changed([network_id])

    async def _give_to_all(self, work: PortWork, subnet: Subnet) -> None:
        """Guests give themselves an address in a new SLAAC subnet: their ports have it from now on."""
        ports = await port_store.read_macs(work.connection, subnet.network_id)
        askers = [
            Asker(port_id, subnet.network_id, (Want((subnet.id,), eui64(subnet.cidr, mac_address)),))
            for port_id, mac_address in ports
        ]
        outcomes = await allocate(work.connection, askers, {subnet.id: subnet.ip_version}, self._batch.clock())
        if error := next((one for one in outcomes if isinstance(one, MusterError)), None):
            raise error
        servers = await server_ports.read_servers_in_subnet(work.connection, subnet.id)
        await work.telling.servers_changed(servers)

    async def _delete(self, work: PortWork, subnet: Subnet) -> None:
        connection = work.connection
        holders = await port_store.read_holders(connection, subnet.id)
        gives_itself = subnet.ipv6_address_mode in AUTO_MODES
        if not gives_itself and any(owner != DHCP_OWNER for _, owner, _ in holders):
            raise network_error(
                "SubnetInUse",
                subnet_id=subnet.id,
                reason="One or more ports have an IP allocation from this subnet.",
            )
        await self._batch.quotas.give_back(connection, [Ask(subnet.project_id, {"subnet": 1})])
        servers = await server_ports.read_servers_in_subnet(connection, subnet.id)
        await work.remove_subnet_ips(subnet.id)
        await self._settled(work, subnet.network_id, without=subnet)
        await close_pools(connection, subnet.id)
        await store.remove(connection, [subnet.id])
        await work.telling.servers_changed(servers)

    async def _check_networks(self, connection: Connection, context: Context, made: Sequence[Subnet]) -> None:
        networks = await network_store.read(connection, {subnet.network_id for subnet in made})
        for subnet in made:
            network = seen_network(networks, subnet.network_id, context)
            check_owner(context, network.project_id, "create_subnet")
            check_mtu(network.id, network.mtu, [subnet])

    async def _own(self, context: Context, subnet_id: str, action: str) -> Subnet:
        async with self._database.read() as connection:
            subnet = await self._seen(connection, context, subnet_id)
            network = (await network_store.read(connection, [subnet.network_id])).get(subnet.network_id)
        if network is None:  # both went between the two queries
            raise network_error("SubnetNotFound", subnet_id=subnet_id)
        if not context.sees(network.project_id):
            check_owner(context, subnet.project_id, action)
        return subnet

    async def _seen(self, connection: Connection, context: Context, subnet_id: str) -> Subnet:
        subnet = (await store.read(connection, [subnet_id])).get(subnet_id)
        if subnet is not None:
            if context.sees(subnet.project_id):
                return subnet
            network = (await network_store.read(connection, [subnet.network_id])).get(subnet.network_id)
            if network is not None and (network.shared or context.sees(network.project_id)):
                return subnet
        raise network_error("SubnetNotFound", subnet_id=subnet_id)
