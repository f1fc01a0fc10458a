"""Ports through the services on each database: what is written, listed, changed and released."""

import asyncio

import pytest

from muster.base.errors import Conflict, MusterError, NotFound
from muster.base.ids import new_uuid
from muster.domain.network_listing import Condition, ListQuery, Sort
from muster.domain.networks import NewNetwork
from muster.domain.port_changes import PortChanges
from muster.domain.ports import NewPort, WantedIp
from muster.domain.specs import AddressPair
from muster.domain.subnets import NewSubnet
from muster.store import usages as usage_store

from .network_cloud import ADMIN, MEMBER, network_cloud


async def a_network(services, cidr: str = "10.0.0.0/24", **fields):
    [network] = await services.networks.create(MEMBER, [NewNetwork(id=new_uuid(), project_id="p1")])
    draft = NewSubnet(id=new_uuid(), project_id="p1", network_id=network.id, ip_version=4, cidr=cidr, **fields)
    [subnet] = await services.subnets.create(MEMBER, [draft])
    return network, subnet


def draft(network, **fields) -> NewPort:
    return NewPort(id=new_uuid(), project_id="p1", network_id=network.id, **fields)


async def test_a_port_is_listed_as_it_was_made(database, tmp_path):
    async with network_cloud(database, tmp_path) as services:
        network, subnet = await a_network(services)
        wanted = draft(
            network,
            name="p",
            fixed_ips=(WantedIp(subnet_id=subnet.id), WantedIp(ip_address="10.0.0.77")),
            allowed_address_pairs=(AddressPair("10.9.0.0/16", ""),),
            binding_profile={"a": [1]},
            tags=("x", "y"),
            device_id="d",
        )
        made = await services.ports.create(MEMBER, wanted)
        assert await services.ports.get(MEMBER, made.id) == made
        assert made.allowed_address_pairs == (AddressPair("10.9.0.0/16", made.mac_address),)
        for condition in (
            Condition("fixed_ip_address", ("10.0.0.77",)),
            Condition("fixed_ip_address_part", (".77", "nothing")),
            Condition("security_group_id", made.security_group_ids),
            Condition("device_id", ("d",)),
        ):
            query = ListQuery(conditions=(condition,), sorts=(Sort("name"),))
            assert await services.ports.page(MEMBER, query) == [made], condition
        only_dhcp = ListQuery(conditions=(Condition("fixed_ip_address", ("10.0.0.2",)),))
        [dhcp] = await services.ports.page(MEMBER, only_dhcp)
        assert dhcp.device_owner == "network:dhcp"


async def test_one_bad_port_does_not_fail_its_neighbours(database, tmp_path):
    async with network_cloud(database, tmp_path) as services:
        network, _ = await a_network(services)
        asked = [
            draft(network, fixed_ips=(WantedIp(ip_address="10.0.0.50"),)),
            draft(network, fixed_ips=(WantedIp(ip_address="10.0.0.50"),)),
            draft(network, security_group_ids=("nothing",)),
            draft(network),
            NewPort(id=new_uuid(), project_id="p1", network_id="nothing"),
        ]
        outcomes = await asyncio.gather(*(services.ports.create(MEMBER, one) for one in asked), return_exceptions=True)
        codes = [one.code if isinstance(one, MusterError) else "made" for one in outcomes]
        assert codes == [
            "made",
            "network.IpAddressAlreadyAllocated",
            "network.SecurityGroupNotFound",
            "made",
            "network.NetworkNotFound",
        ]
        async with database.read() as connection:
            assert (await usage_store.read(connection, ["p1"]))["p1", "port"] == 3  # with the DHCP port


async def test_an_update_keeps_adds_and_releases_addresses(database, tmp_path):
    async with network_cloud(database, tmp_path) as services:
        network, subnet = await a_network(services)
        port = await services.ports.create(MEMBER, draft(network, fixed_ips=(WantedIp(ip_address="10.0.0.9"),)))
        wanted = (WantedIp(subnet_id=subnet.id), WantedIp(ip_address="10.0.0.20"))
        changed = await services.ports.update(MEMBER, port.id, PortChanges(fixed_ips=wanted, name="new"))
        assert [one.ip_address for one in changed.fixed_ips] == ["10.0.0.9", "10.0.0.20"]
        bare = await services.ports.update(MEMBER, port.id, PortChanges(fixed_ips=(), security_group_ids=()))
        assert (bare.fixed_ips, bare.security_group_ids, bare.name) == ((), (), "new")
        assert bare.revision > changed.revision > port.revision
        again = await services.ports.create(MEMBER, draft(network, fixed_ips=(WantedIp(ip_address="10.0.0.20"),)))
        assert again.fixed_ips[0].ip_address == "10.0.0.20"


async def test_a_mac_address_is_had_once(database, tmp_path):
    async with network_cloud(database, tmp_path) as services:
        network, _ = await a_network(services)
        one = await services.ports.create(MEMBER, draft(network, mac_address="fa:16:3e:00:00:01"))
        two = await services.ports.create(MEMBER, draft(network))
        with pytest.raises(Conflict) as caught:
            await services.ports.update(ADMIN, two.id, PortChanges(mac_address=one.mac_address))
        assert caught.value.code == "network.MacAddressInUse"


async def test_a_network_goes_only_when_its_ports_are_gone(database, tmp_path):
    async with network_cloud(database, tmp_path) as services:
        network, subnet = await a_network(services)
        port = await services.ports.create(MEMBER, draft(network))
        for delete, item in ((services.networks.delete, network), (services.subnets.delete, subnet)):
            with pytest.raises(Conflict):
                await delete(MEMBER, item.id)
        await asyncio.gather(*(services.ports.delete(MEMBER, one) for one in [port.id]))
        await services.networks.delete(MEMBER, network.id)
        with pytest.raises(NotFound):
            await services.subnets.get(MEMBER, subnet.id)
        async with database.read() as connection:
            counted = await usage_store.read(connection, ["p1"])
        assert {name: number for (_, name), number in counted.items() if number} == {
            "security_group": 1,
            "security_group_rule": 4,
        }


async def test_two_workers_never_give_an_address_twice(database, tmp_path):
    async with network_cloud(database, tmp_path) as one, network_cloud(database, tmp_path, "two") as two:
        network, _ = await a_network(one, "10.0.0.0/22")
        asked = [(one, two)[index % 2].ports.create(MEMBER, draft(network)) for index in range(400)]
        ports = await asyncio.gather(*asked)
        assert len({port.fixed_ips[0].ip_address for port in ports}) == 400
        gone = [(two, one)[index % 2].ports.delete(MEMBER, port.id) for index, port in enumerate(ports)]
        await asyncio.gather(*gone)
        await two.networks.delete(MEMBER, network.id)


async def test_subnets_made_at_once_never_overlap_and_share_one_dhcp_port(database, tmp_path):
    async with network_cloud(database, tmp_path) as one, network_cloud(database, tmp_path, "two") as two:
        [network] = await one.networks.create(MEMBER, [NewNetwork(id=new_uuid(), project_id="p1")])

        def make(services, cidr: str):
            wanted = NewSubnet(id=new_uuid(), project_id="p1", network_id=network.id, ip_version=4, cidr=cidr)
            return services.subnets.create(MEMBER, [wanted])

        cidrs = ["10.0.0.0/24", "10.0.0.0/16", "10.0.0.128/25", "10.1.0.0/24"]
        asked = [make(services, cidr) for cidr in cidrs for services in (one, two)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert {outcome.code for outcome in outcomes if not isinstance(outcome, list)} == {"network.InvalidInput"}
        made = [outcome[0] for outcome in outcomes if isinstance(outcome, list)]
        assert len(made) == 2
        [dhcp] = await one.ports.page(MEMBER, ListQuery())
        assert {fixed.subnet_id for fixed in dhcp.fixed_ips} == {subnet.id for subnet in made}
