"""Servers from the request to ACTIVE and to nothing, on simulated hosts: many at once, and none lost."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from muster.base.errors import Conflict, Forbidden, NotFound
from muster.base.metrics import MESSAGES
from muster.domain.context import Context
from muster.domain.instance_actions import ActionQuery
from muster.domain.reports import HostCapacity
from muster.domain.servers import Asked, FlavorPicture, NewServer, Verb
from muster.domain.subnets import Pool
from muster.domain.timeline import DHCP, STEPS
from muster.store.addresses import addresses
from muster.store.hosts import hosts
from muster.store.ports import ports
from muster.store.quotas import set_limits
from muster.store.usages import usages
from tests.audit import ledger

from .beds import TINY, a_cloud, bed_in

SIX_CORES = FlavorPicture(id="6", name="six", vcpus=6, ram_mib=512, disk_gib=1)
TWO_CORES = FlavorPicture(id="2", name="two", vcpus=2, ram_mib=512, disk_gib=1)


def messages_on_the_bus() -> float:
    samples = (sample for metric in MESSAGES.collect() for sample in metric.samples)
    return sum(sample.value for sample in samples if sample.name.endswith("_total"))


async def test_two_thousand_single_requests_with_exactly_as_many_addresses(tmp_path: Path) -> None:
    async with a_cloud(tmp_path, 500) as cloud:
        bed = await bed_in(cloud, "10.0.0.0/16", (Pool("10.0.1.0", "10.0.8.207"),))  # 2,000 addresses
        before = messages_on_the_bus()
        made = await asyncio.gather(*(cloud.compute.creation.create([bed.draft()]) for _ in range(2_000)))
        assert len({server.id for [server] in made}) == 2_000
        found = await bed.settled(2_000)
        assert {server.status for server in found} == {"ACTIVE"}
        assert messages_on_the_bus() - before < 2_000, "less than one message per server, both directions"
        for server in found:
            assert [step for step in STEPS if step in server.timeline] == [step for step in STEPS if step != DHCP]
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


async def test_the_same_again_and_again_with_exactly_as_many_addresses(tmp_path: Path) -> None:
    """One request for all of them, then single ones; every address has just been released and rests."""
    async with a_cloud(tmp_path, 50) as cloud:
        bed = await bed_in(cloud, "10.0.0.0/16", (Pool("10.0.1.0", "10.0.2.143"),))  # 400 addresses
        for number in range(6):
            if number % 2:
                asked = await asyncio.gather(*(bed.create() for _ in range(400)))
            else:
                asked = await cloud.compute.creation.create([bed.draft(launch_index=n) for n in range(400)])
            found = await bed.settled(400)
            assert {server.status for server in found} == {"ACTIVE"}
            assert len({ip.ip_address for server in found for i in server.interfaces for ip in i.fixed_ips}) == 400
            await asyncio.gather(*(bed.delete(server.id) for server in asked))
            await bed.settled(0)
        await bed.rest()
        assert ledger.audit(tmp_path / "muster.db") == []


async def test_one_request_for_two_thousand_servers(tmp_path: Path) -> None:
    async with a_cloud(tmp_path, 500) as cloud:
        bed = await bed_in(cloud, "10.0.0.0/16", (Pool("10.0.1.0", "10.0.8.207"),))
        made = await cloud.compute.creation.create([bed.draft(launch_index=n) for n in range(2_000)])
        assert len(made) == 2_000
        found = await bed.settled(2_000)
        assert {server.status for server in found} == {"ACTIVE"}
        await bed.rest()
        assert ledger.audit(tmp_path / "muster.db") == []


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


async def test_a_request_gets_as_many_servers_as_quotas_allow_if_that_is_enough_for_it(tmp_path: Path) -> None:
    async with a_cloud(tmp_path, 2) as cloud:
        bed = await bed_in(cloud, "10.0.0.0/24")
        poor = "f" * 32  # may have 10 instances, 20 cores

        def drafts(count: int, **changes: Any) -> list[NewServer]:
            return [
                bed.draft(project_id=poor, name=f"vm-{n + 1}", hostname=f"vm-{n + 1}", **changes) for n in range(count)
            ]

        made = await cloud.compute.creation.create(drafts(15, flavor=SIX_CORES), least=2)
        assert [server.name for server in made] == ["vm-1", "vm-2", "vm-3"]
        with pytest.raises(Forbidden, match="Quota exceeded for instances: Requested 8-15, but already used 3 of 10"):
            await cloud.compute.creation.create(drafts(15), least=8)
        [alone] = await cloud.compute.creation.create(drafts(2, flavor=TWO_CORES), least=1)
        assert (alone.name, alone.hostname) == ("vm", "vm")  # 20 cores are in use now
        used = {"instances": 4, "cores": 20, "ram": 4 * TINY.ram_mib, "port": 4}
        for resource, number in used.items():
            mine = (usages.c.project_id == poor) & (usages.c.resource == resource)
            assert await bed.scalar(select(usages.c.in_use).where(mine)) == number


async def test_ports_beyond_quota_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    async with a_cloud(tmp_path, 2) as cloud:
        bed = await bed_in(cloud, "10.0.0.0/24")
        poor = "f" * 32
        async with cloud.database.write() as connection:
            await set_limits(connection, poor, {"port": 3})
        made = await cloud.compute.creation.create([bed.draft(project_id=poor) for _ in range(5)], least=1)
        assert len(made) == 3
        with pytest.raises(Forbidden, match="Maximum number of ports exceeded"):
            await cloud.compute.creation.create([bed.draft(project_id=poor)])
        assert await bed.scalar(select(func.count()).where(ports.c.project_id == poor)) == 3
        mine = (usages.c.project_id == poor) & (usages.c.resource == "instances")
        assert await bed.scalar(select(usages.c.in_use).where(mine)) == 3


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
