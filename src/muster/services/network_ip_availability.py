"""How many addresses the networks have, and how many of them ports use."""

from collections import defaultdict

from msgspec import Struct

from muster.domain.network_errors import network_error
from muster.domain.network_listing import Condition, ListQuery
from muster.domain.networks import Network
from muster.domain.subnets import Subnet, ranges
from muster.store import addresses as address_store
from muster.store import networks as network_store
from muster.store import subnets as subnet_store
from muster.store.dialects import chunks
from muster.store.engine import Database
from muster.store.network_listing import MarkerNotFound


class SubnetAvailability(Struct, frozen=True):
    """One subnet's addresses."""

    subnet: Subnet
    total: int
    used: int


class NetworkAvailability(Struct, frozen=True):
    """One network's addresses."""

    network: Network
    subnets: tuple[SubnetAvailability, ...]


class NetworkIpAvailability:
    """What can be asked of availability."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, query: ListQuery) -> list[NetworkAvailability]:
        """The availability of a page of networks. About five queries. Raises NotFound for an unknown marker."""
        async with self._database.read() as connection:
            try:
                networks = await network_store.read_page(connection, query, None)
            except MarkerNotFound as error:
                raise network_error("NetworkNotFound", net_id=query.marker) from error
            subnets: list[Subnet] = []
            used: dict[str, int] = {}
            for part in chunks([network.id for network in networks]):
                mine = ListQuery(conditions=(Condition("network_id", tuple(part)),))
                subnets += await subnet_store.read_page(connection, mine, None)
            for part in chunks([subnet.id for subnet in subnets]):
                used.update(await address_store.count_given(connection, part))
        by_network: defaultdict[str, list[SubnetAvailability]] = defaultdict(list)
        for subnet in subnets:
            by_network[subnet.network_id].append(SubnetAvailability(subnet, _size(subnet), used.get(subnet.id, 0)))
        return [NetworkAvailability(network, tuple(by_network[network.id])) for network in networks]

    async def get(self, network_id: str) -> NetworkAvailability:
        """One network's. Raises NotFound."""
        found = await self.page(ListQuery(conditions=(Condition("id", (network_id,)),)))
        if not found:
            raise network_error("NetworkNotFound", net_id=network_id)
        return found[0]


def _size(subnet: Subnet) -> int:
    return sum(one.last - one.first + 1 for one in ranges(subnet.allocation_pools))
