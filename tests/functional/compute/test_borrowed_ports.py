"""Ports that were there before a server: one server has each, and whoever fails or is refused lets go of it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from muster.base.errors import Conflict, NotFound
from muster.base.ids import new_uuid
from muster.domain.ports import NewPort, Port
from muster.domain.server_interfaces import Attach
from muster.domain.server_lookups import NicAsked
from muster.domain.servers import Server, WantedNic
from muster.domain.subnets import Pool
from tests.audit import ledger

from .beds import Bed, a_cloud, bed_in


async def _port(bed: Bed) -> Port:
    project_id = bed.context.project_id or ""
    draft = NewPort(id=new_uuid(), project_id=project_id, network_id=bed.network_id)
    return await bed.cloud.network.ports.create(bed.context, draft)


async def _free(bed: Bed, port: Port) -> bool:
    found = await bed.cloud.network.ports.get(bed.context, port.id)
    return (found.device_id, found.device_owner, found.binding_host_id) == ("", "", "")


async def test_two_requests_at_once_for_one_port_have_one_winner(tmp_path: Path) -> None:
    async with a_cloud(tmp_path, 2) as cloud:
        bed = await bed_in(cloud, "10.0.0.0/24")
        port = await _port(bed)
        outcomes: list[Any] = await asyncio.gather(
            *(bed.create(nics=(WantedNic(port_id=port.id),)) for _ in range(5)), return_exceptions=True
        )
        [winner] = [one for one in outcomes if isinstance(one, Server)]
        assert len([one for one in outcomes if isinstance(one, Conflict)]) == 4
        await bed.settled(1)
        found = await bed.cloud.network.ports.get(bed.context, port.id)
        assert found.device_id == winner.id
        assert await _audit(tmp_path / "muster.db") == []


async def test_a_refused_request_lets_go_of_its_port(tmp_path: Path) -> None:
    async with a_cloud(tmp_path, 1) as cloud:
        bed = await bed_in(cloud, "10.0.0.0/24")
        port = await _port(bed)
        with pytest.raises(NotFound):
            await bed.create(nics=(WantedNic(port_id=port.id), WantedNic(network_id=new_uuid())))
        assert await _free(bed, port)
        assert await _audit(tmp_path / "muster.db") == []


async def test_a_server_in_error_lets_go_of_its_port_and_never_takes_it_from_another(tmp_path: Path) -> None:
    async with a_cloud(tmp_path, 1) as cloud:
        bed = await bed_in(cloud, "10.0.0.0/24", (Pool("10.0.0.10", "10.0.0.10"),))
        port = await _port(bed)  # has the only address, so that the second interface finds none
        failed = await bed.create(nics=(WantedNic(port_id=port.id), WantedNic(network_id=bed.network_id)))
        assert failed.status == "ERROR"
        assert await _free(bed, port)
        good = await bed.create(nics=(WantedNic(port_id=port.id),))
        await bed.settled(2)
        await bed.delete(failed.id)
        await bed.settled(1)
        assert (await bed.cloud.network.ports.get(bed.context, port.id)).device_id == good.id
        await bed.delete(good.id)
        await bed.settled(0)
        assert await _free(bed, port)
        assert await _audit(tmp_path / "muster.db") == []


async def test_ports_attached_at_once_have_one_winner_each_and_its_places_follow_the_orders(tmp_path: Path) -> None:
    async with a_cloud(tmp_path, 2) as cloud:
        bed = await bed_in(cloud, "10.0.0.0/24")
        one, two = await bed.create(nics=()), await bed.create(nics=())
        await bed.settled(2)
        first, second = await _port(bed), await _port(bed)
        orders = [(one, first), (one, first), (two, first), (two, second), (one, second)]
        outcomes = await asyncio.gather(*(_attach(bed, server, port) for server, port in orders))
        assert outcomes == [first.id, "compute.port_in_use", "compute.port_in_use", second.id, "compute.port_in_use"]
        assert (await bed.cloud.network.ports.get(bed.context, first.id)).device_id == one.id
        assert (await bed.cloud.network.ports.get(bed.context, second.id)).device_id == two.id
        assert await _audit(tmp_path / "muster.db") == []


async def _audit(path: Path) -> list[str]:
    """What is wrong once all is told."""
    async with asyncio.timeout(300):
        while ledger.restless(path):
            await asyncio.sleep(0.02)
    return ledger.audit(path)


async def _attach(bed: Bed, server: Server, port: Port) -> str:
    """The id of the port that was attached, or the code of the refusal."""
    order = Attach(
        context=bed.context, server_id=server.id, nic=NicAsked(port_id=port.id), tag=None, request_id="req-3"
    )
    try:
        _, interface = await bed.cloud.compute.server_interfaces.attach(order)
    except Conflict as error:
        return error.code
    return interface.port_id
