"""Workers of compute over one database: what several processes of a control plane do at the same time."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random

from msgspec import Struct

from muster.api.network.services import Services as NetworkServices
from muster.api.network.services import assemble, assemble_batch
from muster.base.clock import system_clock
from muster.base.ids import new_uuid
from muster.bus.memory import MemoryBus
from muster.domain.context import Context
from muster.domain.networks import NewNetwork
from muster.domain.servers import NewServer, WantedNic
from muster.domain.subnets import NewSubnet
from muster.locks.protocol import LockService
from muster.locks.tooz import ToozLocks
from muster.services.outbox import Outbox
from muster.services.port_work import PortSettings
from muster.services.quotas import Quotas
from muster.services.server_creation import ServerCreation
from muster.services.server_orders import ServerOrders
from muster.store.engine import Database

from .compute_cloud import FLAVOR

ADMIN = Context(user_id="a", project_id="adm", roles=frozenset({"admin"}))


class Worker(Struct, frozen=True, kw_only=True):
    """One process's services."""

    database: Database
    network: NetworkServices
    creation: ServerCreation
    orders: ServerOrders


@asynccontextmanager
async def workers(
    database: Database,
    directory: Path,
    count: int = 2,
    limits: Mapping[str, int] | None = None,
    locks_of_all: LockService | None = None,
    lease_s: float | None = None,
) -> AsyncIterator[list[Worker]]:
    """`count` workers with connections of their own, which share their locks; `limits` None is no quotas."""
    async with AsyncExitStack() as stack:
        found = []
        for index in range(count):
            own = Database(database.url)
            stack.push_async_callback(own.close)
            locks = ToozLocks(f"file://{directory}/locks", f"worker{index}", directory / "tokens")
            await locks.start()
            stack.push_async_callback(locks.close)
            settings = PortSettings(lease_s=lease_s)
            found.append(_worker(own, locks_of_all or locks, Quotas(limits or {}), index, settings))
        yield found


def _worker(database: Database, locks: LockService, quotas: Quotas, index: int, settings: PortSettings) -> Worker:
    outbox = Outbox(system_clock)
    bus = MemoryBus()
    batch, groups = assemble_batch(database, locks, quotas, outbox, rng=Random(index), settings=settings)
    return Worker(
        database=database,
        network=assemble(database, batch, groups),
        creation=ServerCreation(batch, bus),
        orders=ServerOrders(database, batch, bus),
    )


async def a_network(worker: Worker, cidr: str | None = "10.0.0.0/22") -> str:
    """A shared network, with a subnet if `cidr` is given."""
    [network] = await worker.network.networks.create(ADMIN, [NewNetwork(id=new_uuid(), project_id="adm", shared=True)])
    if cidr:
        draft = NewSubnet(
            id=new_uuid(), project_id="adm", network_id=network.id, ip_version=4, cidr=cidr, enable_dhcp=False
        )
        await worker.network.subnets.create(ADMIN, [draft])
    return network.id


def a_server(project_id: str = "p", network_id: str | None = None, **fields: object) -> NewServer:
    """A server to be made."""
    values = {
        "id": new_uuid(),
        "project_id": project_id,
        "user_id": "u",
        "name": "vm",
        "hostname": "vm",
        "flavor": FLAVOR,
        "reservation_id": "r",
        "request_id": "req",
        "accepted_at": 1.0,
        "nics": (WantedNic(network_id=network_id),) if network_id else (),
        **fields,
    }
    return NewServer(**values)  # type: ignore[arg-type]
