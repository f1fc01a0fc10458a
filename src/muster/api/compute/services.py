"""The use cases behind the compute API, and how they are put together."""

from collections.abc import Callable

from msgspec import Struct

from muster.base.clock import Clock
from muster.services.compute_quotas import ComputeQuotas
from muster.services.flavors import Flavors
from muster.services.images import ImageService
from muster.services.keypairs import Keypairs
from muster.services.networks import Networks
from muster.services.port_batch import PortBatch
from muster.services.server_creation import ServerCreation, ServerSettings
from muster.services.server_groups import ServerGroups
from muster.services.server_orders import ServerOrders
from muster.services.servers import Servers
from muster.store.engine import Database


class Services(Struct, frozen=True, kw_only=True):
    """What the handlers call."""

    servers: Servers
    creation: ServerCreation
    orders: ServerOrders
    flavors: Flavors
    keypairs: Keypairs
    quotas: ComputeQuotas
    server_groups: ServerGroups
    images: ImageService
    networks: Networks
    clock: Clock


class Neighbours(Struct, frozen=True, kw_only=True):
    """What compute needs of the other APIs' use cases."""

    images: ImageService
    networks: Networks


def assemble(
    database: Database,
    batch: PortBatch,
    wake: Callable[[], None],
    neighbours: Neighbours,
    settings: ServerSettings | None = None,
) -> Services:
    """All services over one database and one port batch. `wake` is called when hosts have something to hear."""
    return Services(
        servers=Servers(database, batch, wake),
        creation=ServerCreation(batch, wake, settings),
        orders=ServerOrders(database, batch, wake),
        flavors=Flavors(database, batch.clock),
        quotas=ComputeQuotas(database, batch.quotas),
        keypairs=Keypairs(database, batch.quotas, batch.clock),
        server_groups=ServerGroups(database, batch.quotas, batch.clock),
        images=neighbours.images,
        networks=neighbours.networks,
        clock=batch.clock,
    )
