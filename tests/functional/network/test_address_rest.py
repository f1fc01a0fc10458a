"""How long a released address rests is the operator's to say."""

from pathlib import Path

import pytest

from muster.base.ids import new_uuid
from muster.cli.cloud import DATABASE, CloudSettings, running
from muster.domain.ports import NewPort, Port
from tests.databases import place_database
from tests.functional.compute.beds import Bed, bed_in


@pytest.mark.parametrize(("rest_s", "same"), [(0.0, True), (1_000.0, False)])
async def test_a_released_address_comes_back_when_its_rest_is_over(tmp_path: Path, rest_s: float, same: bool) -> None:
    settings = CloudSettings(folder=tmp_path, address_rest_s=rest_s)
    place_database(tmp_path / DATABASE)
    async with running(settings, "a-password-for-tests") as cloud:
        bed = await bed_in(cloud, "10.0.0.0/24")
        first = await _port(bed)
        await cloud.network.ports.delete(bed.context, first.id)
        assert ((await _port(bed)).fixed_ips == first.fixed_ips) is same


async def _port(bed: Bed) -> Port:
    draft = NewPort(id=new_uuid(), project_id=bed.context.project_id or "", network_id=bed.network_id)
    return await bed.cloud.network.ports.create(bed.context, draft)
