"""The use cases behind the compute API, and how they are put together."""

from msgspec import Struct

from muster.base.clock import Clock
from muster.bus.protocol import Bus
from muster.services.aggregates import Aggregates
from muster.services.compute_quotas import ComputeQuotas
from muster.services.flavors import Flavors
from muster.services.host_questions import HostQuestions
from muster.services.hypervisors import Hypervisors
from muster.services.images import ImageService
from muster.services.keypairs import Keypairs
from muster.services.networks import Networks
from muster.services.port_batch import PortBatch
from muster.services.server_addresses import ServerAddresses
from muster.services.server_changes import ServerChanges
from muster.services.server_consoles import ServerConsoles
from muster.services.server_creation import ServerCreation
from muster.services.server_diagnostics import ServerDiagnostics
from muster.services.server_groups import ServerGroups
from muster.services.server_interfaces import ServerInterfaces
from muster.services.server_lookups import ServerLookups
from muster.services.server_orders import ServerOrders
from muster.services.server_placement import ServerSettings
from muster.services.server_security_groups import ServerSecurityGroups
from muster.services.servers import Servers
from muster.services.tenant_usages import TenantUsages
from muster.services.user_quotas import UserQuotas
from muster.store.engine import Database


class Services(Struct, frozen=True, kw_only=True):
    """What the handlers call."""

    servers: Servers
    creation: ServerCreation
    orders: ServerOrders
    server_addresses: ServerAddresses
    server_changes: ServerChanges
    server_consoles: ServerConsoles
    server_diagnostics: ServerDiagnostics
    server_interfaces: ServerInterfaces
    server_lookups: ServerLookups
    server_security_groups: ServerSecurityGroups
    aggregates: Aggregates
    flavors: Flavors
    host_questions: HostQuestions
    hypervisors: Hypervisors
    keypairs: Keypairs
    quotas: ComputeQuotas
    server_groups: ServerGroups
    tenant_usages: TenantUsages
    user_quotas: UserQuotas
    images: ImageService
    networks: Networks
    clock: Clock


class Neighbours(Struct, frozen=True, kw_only=True):
    """What compute needs of the other APIs' use cases, and the bus on which it asks hosts."""

    images: ImageService
    networks: Networks
    bus: Bus


def assemble(
    database: Database,
    batch: PortBatch,
    neighbours: Neighbours,
    settings: ServerSettings | None = None,
) -> Services:
    """All services over one database and one port batch."""
    servers, lookups = Servers(database), ServerLookups(database, batch)
    questions = HostQuestions(neighbours.bus)
    settings = settings or ServerSettings()
    return Services(
        servers=servers,
        creation=ServerCreation(batch, neighbours.bus, settings),
        orders=ServerOrders(database, batch, neighbours.bus),
        server_addresses=ServerAddresses(batch, servers),
        server_changes=ServerChanges(database, batch, servers),
        server_consoles=ServerConsoles(servers, questions),
        server_diagnostics=ServerDiagnostics(servers, questions),
        server_interfaces=ServerInterfaces(database, batch, servers),
        server_lookups=lookups,
        server_security_groups=ServerSecurityGroups(database, batch, servers, lookups),
        aggregates=Aggregates(database, batch.clock),
        flavors=Flavors(database, batch.clock),
        host_questions=questions,
        quotas=ComputeQuotas(database, batch.quotas),
        hypervisors=Hypervisors(database, batch.clock, settings.host_timeout_s),
        keypairs=Keypairs(database, batch.quotas, batch.clock),
        tenant_usages=TenantUsages(database, batch.clock),
        user_quotas=UserQuotas(database, batch.quotas),
        server_groups=ServerGroups(database, batch.quotas, batch.clock),
        images=neighbours.images,
        networks=neighbours.networks,
        clock=batch.clock,
    )
