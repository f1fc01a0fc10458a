"""Addresses of a whole batch: nobody is told 'none left' because of how others asked; what goes leaves no trace."""

import asyncio
from collections import Counter

from sqlalchemy import func, select

from muster.base.errors import MusterError
from muster.base.ids import new_uuid
from muster.domain.ports import NewPort, Port, WantedIp
from muster.domain.subnets import NewSubnet, Pool
from muster.store import addresses as store

from .conftest import REST_S, Bed
from .workers import ADMIN


async def _another_subnet(bed: Bed, cidr: str, **fields: object) -> str:
    bed.now += 1  # subnets are tried in the order of their age
    version = 6 if ":" in cidr else 4
    values = {"enable_dhcp": version == 6, "gateway_ip": None, **fields}
    draft = NewSubnet(
        id=new_uuid(),
        project_id="adm",
        network_id=bed.network_id,
        ip_version=version,
        cidr=cidr,
        **values,  # type: ignore[arg-type]
    )
    [subnet] = await bed.services.subnets.create(ADMIN, [draft])
    return subnet.id


async def _at_once(bed: Bed, wishes: list[str | None]) -> list[Port | BaseException]:
    """One batch of ports: each in the subnet that it names, or in any."""
    drafts = [
        NewPort(
            id=new_uuid(),
            project_id="adm",
            network_id=bed.network_id,
            fixed_ips=None if subnet_id is None else (WantedIp(subnet_id=subnet_id),),
        )
        for subnet_id in wishes
    ]
    made = [bed.services.ports.create(ADMIN, draft) for draft in drafts]
    return await asyncio.gather(*made, return_exceptions=True)


async def test_those_who_name_a_subnet_do_not_hide_the_next_one_from_those_who_take_any(bed):
    first, second = bed.subnet_id, await _another_subnet(bed, "10.0.1.0/24")
    outcomes = await _at_once(bed, [None, first, first, first, None, None, None, first])
    # The first subnet has five addresses; who came first has them, and only who must have one there goes without.
    where = [one.fixed_ips[0].subnet_id if isinstance(one, Port) else one for one in outcomes]
    assert where[:7] == [first, first, first, first, first, second, second]
    assert isinstance(where[7], MusterError)
    assert where[7].code == "network.IpAddressGenerationFailure"


async def test_a_port_that_cannot_have_all_leaves_the_free_range_whole(bed):
    await _another_subnet(bed, "fd00::/64", allocation_pools=(Pool("fd00::1", "fd00::1"),), enable_dhcp=False)
    outcomes = await _at_once(bed, [None] * 4)
    assert Counter(type(one) is Port for one in outcomes) == {True: 1, False: 3}
    async with bed.database.read() as connection:
        [left] = await store.read_all_ranges(connection, bed.subnet_id)
    assert left.size == 4


async def test_what_comes_and_goes_for_ever_leaves_no_more_rows_than_were_there_at_once(bed):
    """Also where addresses would last for centuries, and where guests make their own."""
    await _another_subnet(bed, "fd00:1::/64", ipv6_address_mode="dhcpv6-stateful")
    await _another_subnet(bed, "fd00:2::/64", ipv6_address_mode="slaac")
    dhcp_port = 2
    for _ in range(6):
        port = await bed.make()
        assert len(port.fixed_ips) == 3
        await bed.delete(port)
        bed.now += REST_S
    async with bed.database.read() as connection:
        rows = (await connection.execute(select(func.count()).select_from(store.addresses))).scalar_one()
    assert rows == dhcp_port + 2
