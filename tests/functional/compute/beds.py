"""Clouds on simulated hosts, within the test's process, and a user's place in them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from msgspec import UNSET, UnsetType
from sqlalchemy import func, select

from muster.base.ids import new_uuid
from muster.cli.cloud import DATABASE, CloudSettings, running
from muster.cli.control_plane import Cloud
from muster.domain.context import Context
from muster.domain.networks import NewNetwork
from muster.domain.server_listing import ServerQuery
from muster.domain.servers import Asked, FlavorPicture, NewServer, Server, Verb, WantedNic
from muster.domain.subnets import NewSubnet, Pool
from muster.host.hypervisor.sim import SimSettings
from muster.store.hosts import hosts
from muster.store.outbox import outbox
from muster.store.ports import ports
from tests.databases import place_database

TINY = FlavorPicture(id="1", name="m1.tiny", vcpus=1, ram_mib=512, disk_gib=1)
DEADLINE_S = 300.0


class Bed:
    """A cloud with one network of `cidr`, and the administrator who uses it."""

    def __init__(self, cloud: Cloud, network_id: str, context: Context) -> None:
        self.cloud = cloud
        self.network_id = network_id
        self.context = context

    @property
    def ports_here(self) -> Any:
        """Counts the network's ports."""
        return select(func.count()).where(ports.c.network_id == self.network_id)

    def draft(self, **changes: object) -> NewServer:
        values = {
            "id": new_uuid(),
            "project_id": self.context.project_id,
            "user_id": self.context.user_id,
            "name": "vm",
            "hostname": "vm",
            "flavor": TINY,
            "reservation_id": "r-1",
            "request_id": "req-1",
            "accepted_at": time.time(),
            "nics": (WantedNic(network_id=self.network_id),),
            **changes,
        }
        return NewServer(**values)  # type: ignore[arg-type]

    async def create(self, **changes: object) -> Server:
        """Ask for one server."""
        [server] = await self.cloud.compute.creation.create([self.draft(**changes)])
        return server

    async def delete(self, server_id: str) -> None:
        """Ask for a server's deletion."""
        await self.cloud.compute.orders.ask(self.context, server_id, Asked(verb=Verb.DELETE), "req-2")

    async def settled(self, count: int) -> list[Server]:
        """All servers, once none is on its way any more."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            found = await self.cloud.compute.servers.page(ServerQuery(limit=10_000))
            if len(found) == count and all(server.task_state is None for server in found):
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(f"not settled: {[(s.vm_state, s.task_state) for s in found][:10]} of {len(found)}")

    async def rest(self) -> None:
        """Wait until the outbox is published as well."""
        end = time.monotonic() + DEADLINE_S
        while await self.scalar(select(func.count()).select_from(outbox)):
            assert time.monotonic() < end, "the outbox is not published"
            await asyncio.sleep(0.02)

    async def scalar(self, statement: object) -> int:
        async with self.cloud.database.read() as connection:
            return int((await connection.execute(statement)).scalar() or 0)  # type: ignore[call-overload]


async def bed_in(cloud: Cloud, cidr: str, pools: tuple[Pool, ...] | UnsetType = UNSET) -> Bed:
    context = Context(user_id=cloud.admin_user_id, project_id=cloud.admin_project_id, roles=frozenset({"admin"}))
    project_id = cloud.admin_project_id
    [network] = await cloud.network.networks.create(
        context, [NewNetwork(id=new_uuid(), project_id=project_id, name="net")]
    )
    subnet = NewSubnet(
        id=new_uuid(),
        project_id=project_id,
        network_id=network.id,
        ip_version=4,
        cidr=cidr,
        allocation_pools=pools,
        enable_dhcp=False,
    )
    await cloud.network.subnets.create(context, [subnet])
    return Bed(cloud, network.id, context)


async def _hosts_there(cloud: Cloud, count: int) -> None:
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        async with cloud.database.read() as connection:
            if (await connection.execute(select(func.count()).select_from(hosts))).scalar_one() == count:
                return
        await asyncio.sleep(0.02)
    raise AssertionError("the hosts did not appear")


@asynccontextmanager
async def a_cloud(folder: Path, sim_hosts: int, **sim: Any) -> AsyncIterator[Cloud]:
    settings = CloudSettings(folder=folder, sim_hosts=sim_hosts, sim=SimSettings(**sim))
    place_database(folder / DATABASE)
    async with running(settings, "a-password-for-tests") as cloud:
        await _hosts_there(cloud, sim_hosts)
        yield cloud
