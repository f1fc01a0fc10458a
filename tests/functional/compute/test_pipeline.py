"""Servers from the request to ACTIVE and to nothing, on simulated hosts: many at once, and none lost."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from muster.base.errors import Conflict, Forbidden, NotFound
from muster.domain.context import Context
from muster.domain.reports import HostCapacity
from muster.domain.servers import Asked, Verb
from muster.domain.subnets import Pool
from muster.store.addresses import addresses
from muster.store.hosts import hosts
from muster.store.instance_actions import ActionQuery
from muster.store.ports import ports
from muster.store.usages import usages

from .beds import TINY, a_cloud, bed_in


async def test_two_thousand_single_requests_with_exactly_as_many_addresses(tmp_path: Path) -> None:
    async with a_cloud(tmp_path, 500) as cloud:
        bed = await bed_in(cloud, "10.0.0.0/16", (Pool("10.0.1.0", "10.0.8.207"),))  # 2,000 addresses
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
        bed = await bed_in(cloud, "10.0.0.0/20")
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
        bed = await bed_in(cloud, "10.0.0.0/24")
        made = await asyncio.gather(*(cloud.compute.creation.create([bed.draft()]) for _ in range(7)))
        # 1,000 MiB with the overcommit of 1.2 hold two servers of 512 MiB on each of two hosts.
        states = sorted(server.status for [server] in made)
        assert states == ["BUILD"] * 4 + ["ERROR"] * 3
        assert await bed.scalar(bed.ports_here) == 4
        assert await bed.scalar(select(func.max(hosts.c.ram_used_mib))) == 1_024


async def test_stop_start_reboot_and_rebuild(tmp_path: Path) -> None:
    async with a_cloud(tmp_path, 1) as cloud:
        bed = await bed_in(cloud, "10.0.0.0/24")
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
        _, actions = await cloud.compute.servers.actions(bed.context, server.id, ActionQuery(), of_deleted=False)
        names = [action.action for action in actions]
        assert names == ["rebuild", "reboot", "reboot", "start", "stop", "create"]


async def test_a_stranger_sees_and_changes_nothing(tmp_path: Path) -> None:
    async with a_cloud(tmp_path, 1) as cloud:
        bed = await bed_in(cloud, "10.0.0.0/24")
        [server] = await cloud.compute.creation.create([bed.draft()])
        stranger = Context(user_id="u", project_id="e" * 32, roles=frozenset({"member"}))
        with pytest.raises(NotFound):
            await cloud.compute.servers.get(stranger, server.id)
        with pytest.raises(NotFound):
            await cloud.compute.orders.ask(stranger, server.id, Asked(verb=Verb.DELETE), "req-4")


async def test_a_cloud_that_starts_again_brings_up_what_was_accepted(tmp_path: Path) -> None:
    async with a_cloud(tmp_path, 5, boot_s=30.0) as cloud:
        bed = await bed_in(cloud, "10.0.0.0/24")
        await asyncio.gather(*(cloud.compute.creation.create([bed.draft()]) for _ in range(50)))
    async with a_cloud(tmp_path, 5) as cloud:
        bed.cloud = cloud
        found = await bed.settled(50)
        assert {server.status for server in found} == {"ACTIVE"}
        assert await bed.scalar(select(func.sum(hosts.c.servers_used))) == 50
