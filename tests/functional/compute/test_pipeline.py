"""Servers from the request to ACTIVE and to nothing, on simulated hosts: many at once, and none lost."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET, UnsetType
from sqlalchemy import func, select

from muster.base.errors import Conflict, Forbidden, NotFound
from muster.base.ids import new_uuid
from muster.cli.cloud import Cloud, CloudSettings, running
from muster.domain.context import Context
from muster.domain.networks import NewNetwork
from muster.domain.reports import HostCapacity
from muster.domain.servers import Asked, FlavorPicture, NewServer, Server, Verb, WantedNic
from muster.domain.subnets import NewSubnet, Pool
from muster.host.hypervisor.sim import SimSettings
from muster.store.addresses import addresses
from muster.store.hosts import hosts
from muster.store.ports import ports
from muster.store.servers import ServerQuery
from muster.store.usages import usages

TINY = FlavorPicture(id="1", name="m1.tiny", vcpus=1, ram_mib=512, disk_gib=1)
DEADLINE_S = 60.0


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

    async def settled(self, count: int) -> list[Server]:
        """All servers, once none is on its way any more."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            found = await self.cloud.compute.servers.page(ServerQuery(limit=10_000))
            if len(found) == count and all(server.task_state is None for server in found):
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(f"not settled: {[(s.vm_state, s.task_state) for s in found][:10]} of {len(found)}")

    async def scalar(self, statement: object) -> int:
        async with self.cloud.database.read() as connection:
            return int((await connection.execute(statement)).scalar() or 0)  # type: ignore[call-overload]


async def _bed(cloud: Cloud, cidr: str, pools: tuple[Pool, ...] | UnsetType = UNSET) -> Bed:
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
    async with running(settings, "a-password-for-tests") as cloud:
        await _hosts_there(cloud, sim_hosts)
        yield cloud


async def test_two_thousand_single_requests_with_exactly_as_many_addresses(tmp_path: Path) -> None:
    async with a_cloud(tmp_path, 500) as cloud:
        bed = await _bed(cloud, "10.0.0.0/16", (Pool("10.0.1.0", "10.0.8.207"),))  # 2,000 addresses
        made = await asyncio.gather(*(cloud.compute.creation.create([bed.draft()]) for _ in range(2_000)))
        assert len({server.id for [server] in made}) == 2_000
        found = await bed.settled(2_000)
        assert {server.status for server in found} == {"ACTIVE"}
        given = {ip.ip_address for server in found for i in server.interfaces for ip in i.fixed_ips}
        assert len(given) == 2_000
        over = hosts.c.ram_used_mib > hosts.c.ram_limit_mib
        assert await bed.scalar(select(func.count()).select_from(hosts).where(over)) == 0
        assert await bed.scalar(select(func.sum(hosts.c.ram_used_mib))) == 2_000 * TINY.ram_mib
        # The next one finds no address, and says so.
        [late] = await cloud.compute.creation.create([bed.draft()])
        assert late.status == "ERROR"
        assert late.fault is not None
        assert "No more IP addresses" in late.fault.message

        orders = [
            cloud.compute.orders.ask(bed.context, server.id, Asked(verb=Verb.DELETE), "req-2") for server in found
        ]
        await asyncio.gather(*orders, cloud.compute.orders.ask(bed.context, late.id, Asked(verb=Verb.DELETE), "req-2"))
        assert await bed.settled(0) == []
        assert await bed.scalar(select(func.sum(hosts.c.ram_used_mib))) == 0
        assert await bed.scalar(bed.ports_here) == 0
        here = addresses.c.network_id == bed.network_id
        assert await bed.scalar(select(func.count()).where(here, addresses.c.port_id.is_not(None))) == 0
        in_use = select(func.sum(usages.c.in_use)).where(usages.c.resource.in_(["instances", "cores", "ram"]))
        assert await bed.scalar(in_use) == 0
        every = await bed.scalar(select(func.count()).select_from(ports))
        assert await bed.scalar(select(func.sum(usages.c.in_use)).where(usages.c.resource == "port")) == every


async def test_one_request_for_many_is_all_or_nothing_by_quota(tmp_path: Path) -> None:
    async with a_cloud(tmp_path, 20) as cloud:
        bed = await _bed(cloud, "10.0.0.0/20")
        made = await cloud.compute.creation.create([bed.draft(launch_index=index) for index in range(300)])
        assert len(made) == 300
        assert {server.status for server in await bed.settled(300)} == {"ACTIVE"}
        poor = "f" * 32
        with pytest.raises(Forbidden, match="Quota exceeded for instances"):
            await cloud.compute.creation.create([bed.draft(project_id=poor) for _ in range(11)])
        assert await bed.scalar(select(func.count()).where(ports.c.project_id == poor)) == 0


async def test_what_no_host_can_hold_is_in_error_and_holds_nothing(tmp_path: Path) -> None:
    small = HostCapacity(vcpus=4, ram_mib=1_000, disk_gib=100)
    async with a_cloud(tmp_path, 2, capacity=small) as cloud:
        bed = await _bed(cloud, "10.0.0.0/24")
        made = await asyncio.gather(*(cloud.compute.creation.create([bed.draft()]) for _ in range(7)))
        # 1,000 MiB with the overcommit of 1.2 hold two servers of 512 MiB on each of two hosts.
        states = sorted(server.status for [server] in made)
        assert states == ["BUILD"] * 4 + ["ERROR"] * 3
        assert await bed.scalar(bed.ports_here) == 4
        assert await bed.scalar(select(func.max(hosts.c.ram_used_mib))) == 1_024


async def test_stop_start_reboot_and_rebuild(tmp_path: Path) -> None:
    async with a_cloud(tmp_path, 1) as cloud:
        bed = await _bed(cloud, "10.0.0.0/24")
        [server] = await cloud.compute.creation.create([bed.draft()])
        await bed.settled(1)

        async def ask(verb: Verb, **details: Any) -> str:
            await cloud.compute.orders.ask(bed.context, server.id, Asked(verb=verb, **details), "req-3")
            [after] = await bed.settled(1)
            return after.status

        assert await ask(Verb.STOP) == "SHUTOFF"
        with pytest.raises(Conflict, match="Cannot 'stop' instance"):
            await ask(Verb.STOP)
        assert await ask(Verb.START) == "ACTIVE"
        assert await ask(Verb.REBOOT) == "ACTIVE"
        assert await ask(Verb.REBOOT, hard=True) == "ACTIVE"
        assert await ask(Verb.REBUILD) == "ACTIVE"
        names = [action.action for action in await cloud.compute.servers.actions(bed.context, server.id)]
        assert names == ["rebuild", "reboot", "reboot", "start", "stop", "create"]


async def test_a_stranger_sees_and_changes_nothing(tmp_path: Path) -> None:
    async with a_cloud(tmp_path, 1) as cloud:
        bed = await _bed(cloud, "10.0.0.0/24")
        [server] = await cloud.compute.creation.create([bed.draft()])
        stranger = Context(user_id="u", project_id="e" * 32, roles=frozenset({"member"}))
        with pytest.raises(NotFound):
            await cloud.compute.servers.get(stranger, server.id)
        with pytest.raises(NotFound):
            await cloud.compute.orders.ask(stranger, server.id, Asked(verb=Verb.DELETE), "req-4")


async def test_a_cloud_that_starts_again_brings_up_what_was_accepted(tmp_path: Path) -> None:
    async with a_cloud(tmp_path, 5, boot_s=30.0) as cloud:
        bed = await _bed(cloud, "10.0.0.0/24")
        await asyncio.gather(*(cloud.compute.creation.create([bed.draft()]) for _ in range(50)))
    async with a_cloud(tmp_path, 5) as cloud:
        bed.cloud = cloud
        found = await bed.settled(50)
        assert {server.status for server in found} == {"ACTIVE"}
        assert await bed.scalar(select(func.sum(hosts.c.servers_used))) == 50
