"""A bed for tests of addresses: a subnet whose pool has five, and a clock that a test sets."""

from collections.abc import AsyncIterator
from random import Random

import pytest

from muster.api.network.services import Services, assemble, assemble_batch
from muster.base.ids import new_uuid
from muster.domain.networks import NewNetwork
from muster.domain.ports import NewPort, Port, WantedIp
from muster.domain.subnets import NewSubnet, Pool
from muster.locks.protocol import LockService
from muster.locks.tooz import ToozLocks
from muster.services.outbox import Outbox
from muster.services.port_work import PortSettings
from muster.services.quotas import Quotas
from muster.store.engine import Database

from .workers import ADMIN

REST_S = 100.0
POOL = Pool("10.0.0.10", "10.0.0.14")


class Bed:
    """A subnet with a pool of five addresses, and a clock that a test sets."""

    def __init__(self, database: Database, locks: LockService, lease_s: float = 0.0) -> None:
        self.now = 1_000.0
        self.database = database
        self.services = self.worker(locks, lease_s)
        self.network_id = self.subnet_id = ""

    def worker(self, locks: LockService, lease_s: float, seed: int = 1) -> Services:
        """Services over the same database."""
        quotas, outbox, settings = Quotas({}), Outbox(self.clock), PortSettings(rest_s=REST_S, lease_s=lease_s)
        batch, groups = assemble_batch(
            self.database, locks, quotas, outbox, clock=self.clock, rng=Random(seed), settings=settings
        )
        return assemble(self.database, batch, groups)

    def clock(self) -> float:
        return self.now

    async def prepare(self) -> None:
        [network] = await self.services.networks.create(ADMIN, [NewNetwork(id=new_uuid(), project_id="adm")])
        draft = NewSubnet(
            id=new_uuid(),
            project_id="adm",
            network_id=network.id,
            ip_version=4,
            cidr="10.0.0.0/24",
            allocation_pools=(POOL,),
            enable_dhcp=False,
        )
        [subnet] = await self.services.subnets.create(ADMIN, [draft])
        self.network_id, self.subnet_id = network.id, subnet.id

    async def make(self, address: str | None = None) -> Port:
        wanted = (WantedIp(ip_address=address),) if address else None
        draft = NewPort(id=new_uuid(), project_id="adm", network_id=self.network_id, fixed_ips=wanted)
        return await self.services.ports.create(ADMIN, draft)

    async def delete(self, port: Port) -> None:
        await self.services.ports.delete(ADMIN, port.id)


@pytest.fixture
async def bed(database, tmp_path) -> AsyncIterator[Bed]:
    locks = ToozLocks(f"file://{tmp_path}/locks", "one", tmp_path / "tokens")
    await locks.start()
    made = Bed(database, locks)
    await made.prepare()
    yield made
    await locks.close()
