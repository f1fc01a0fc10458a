"""Released addresses rest before they are given out again, unless the subnet runs dry; nothing is lost on the way."""

from ipaddress import ip_address
from random import Random

import pytest

from muster.base.errors import MusterError
from muster.domain.addresses import to_number
from muster.domain.ports import Port
from muster.domain.subnets import Pool, SubnetChanges
from muster.store import addresses as store

from .conftest import REST_S, Bed
from .workers import ADMIN


def _address(port: Port) -> str:
    return port.fixed_ips[0].ip_address


async def test_a_released_address_rests_while_others_are_free(bed):
    first = await bed.make()
    assert _address(first) == "10.0.0.10"
    await bed.delete(first)
    assert [_address(await bed.make()) for _ in range(4)] == [f"10.0.0.{n}" for n in (11, 12, 13, 14)]


async def test_what_has_rested_is_the_first_to_be_given_again(bed):
    first, second = await bed.make(), await bed.make()
    await bed.delete(second)
    bed.now += 1
    await bed.delete(first)
    bed.now += REST_S - 1
    assert [_address(await bed.make()) for _ in range(2)] == ["10.0.0.11", "10.0.0.12"]  # .10 rests for a second more
    bed.now += 1
    assert _address(await bed.make()) == "10.0.0.10"


async def test_a_dry_subnet_reuses_what_has_rested_longest(bed):
    ports = [await bed.make() for _ in range(5)]
    for index in (3, 1, 4):
        await bed.delete(ports[index])
        bed.now += 1
    with_rest_over = [_address(await bed.make()) for _ in range(3)]
    assert with_rest_over == ["10.0.0.13", "10.0.0.11", "10.0.0.14"]
    with pytest.raises(MusterError, match="No more IP addresses"):
        await bed.make()


async def test_a_resting_address_can_be_had_by_name(bed):
    first = await bed.make()
    await bed.delete(first)
    assert _address(await bed.make("10.0.0.10")) == "10.0.0.10"


async def test_rest_over_or_not_every_address_is_given_once(bed):
    """Ports come, go and ask for addresses by name, and the pools change: every address is in one place."""
    rng = Random(7)
    ports: list[Port] = []
    for _ in range(60):
        bed.now += rng.choice([0, 1, REST_S])
        try:
            if ports and rng.random() < 0.4:
                await bed.delete(ports.pop(rng.randrange(len(ports))))
            elif rng.random() < 0.1:
                last = rng.choice([12, 14, 16])
                pools = (Pool("10.0.0.10", f"10.0.0.{last}"),)
                await bed.services.subnets.update(ADMIN, bed.subnet_id, SubnetChanges(allocation_pools=pools))
            else:
                ports.append(await bed.make(rng.choice([None, None, f"10.0.0.{rng.randrange(9, 18)}"])))
        except MusterError as error:
            if error.code not in ("network.IpAddressGenerationFailure", "network.IpAddressAlreadyAllocated"):
                raise
        await _check(bed, ports)


async def _check(bed: Bed, ports: list[Port]) -> None:
    subnet = await bed.services.subnets.get(ADMIN, bed.subnet_id)
    async with bed.database.read() as connection:
        free = await store.read_all_ranges(connection, bed.subnet_id)
        given = await store.read_all_given(connection, bed.subnet_id)
    pools = [
        number for pool in subnet.allocation_pools for number in range(to_number(pool.start), to_number(pool.end) + 1)
    ]
    placed = [number for one in free for number in range(one.first, one.last + 1)]
    placed += [number for number, port_id, pooled in given if pooled]
    assert sorted(placed) == pools
    held = {number: port_id for number, port_id, _ in given if port_id is not None}
    assert held == {int(ip_address(_address(port))): port.id for port in ports}
