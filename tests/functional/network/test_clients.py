"""The stock `openstack` command and openstacksdk against the API over a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from keystoneauth1.session import Session
from keystoneauth1.token_endpoint import Token
from openstack.connection import Connection
from openstack.exceptions import ConflictException

from muster.api.http.mounts import Mounts
from tests.openstack_command import openstack_command
from tests.serving import serving

from .conftest import Cloud

pytestmark = pytest.mark.system


@pytest.fixture
async def endpoint(cloud: Cloud) -> AsyncIterator[str]:
    """The API on a free loopback port, under `/network` as in a whole cloud."""
    async with serving(Mounts({"/network": cloud.app})) as base_url:
        yield base_url + "/network"


@pytest.fixture
def openstack(endpoint: str, tmp_path: Path) -> Iterator[Callable[..., Awaitable[str]]]:
    """The `openstack` command as an administrator."""
    who = {"OS_AUTH_TYPE": "admin_token", "OS_ENDPOINT": endpoint, "OS_TOKEN": "admin@p1"}
    with openstack_command(tmp_path / "home", who) as command:
        yield partial(asyncio.to_thread, command)


@pytest.mark.timeout(900)
async def test_the_command(openstack):
    await openstack("network create --share --mtu 1400 --tag red --description d n1")
    await openstack("network set --name n2 --tag blue n1")
    assert (await openstack("network list --tags red,blue -f value -c Name")).split() == ["n2"]
    pool = "--allocation-pool start=10.0.0.10,end=10.0.0.50 --host-route destination=10.5.0.0/16,gateway=10.0.0.1"
    await openstack(f"subnet create --network n2 --subnet-range 10.0.0.0/24 --dns-nameserver 9.9.9.9 {pool} s1")
    await openstack("subnet set --dns-nameserver 9.9.9.8 --allocation-pool start=10.0.0.60,end=10.0.0.70 s1")
    subnet = json.loads(await openstack("subnet show s1 -f json"))
    assert (subnet["gateway_ip"], len(subnet["allocation_pools"]), len(subnet["dns_nameservers"])) == ("10.0.0.1", 2, 2)
    assert "use_default_subnetpool" in await openstack(
        "subnet create --use-default-subnet-pool --network n2 sx", status=1
    )
    await openstack("security group create g1")
    rule = "security group rule create --protocol tcp --dst-port 22:22 --remote-ip 0.0.0.0/0 g1"
    await openstack(rule)
    assert "Security group rule already exists" in await openstack(rule, status=1)
    await openstack("security group rule create --ingress --ethertype IPv6 --remote-group g1 g1")
    assert len(json.loads(await openstack("security group rule list g1 -f json"))) == 4
    address = "--fixed-ip subnet=s1,ip-address=10.0.0.66"
    await openstack(f"port create --network n2 {address} --security-group g1 --tag t --dns-name host p1")
    await openstack("port set --name p2 --fixed-ip subnet=s1,ip-address=10.0.0.67 p1")
    await openstack("port unset --fixed-ip subnet=s1,ip-address=10.0.0.66 p2")
    await openstack("port set --no-security-group --disable-port-security p2")
    assert (await openstack("port list --fixed-ip ip-substring=0.0.67 --tags t -f value -c Name")).split() == ["p2"]
    assert "tag-ports-during-bulk-creation" in await openstack("extension list --network")
    await openstack("network agent list")
    await openstack("availability zone list --network")
    assert "could not be found" in await openstack("router create r1", status=1)
    await openstack("network delete n2", status=1)
    await openstack("port delete p2")
    await openstack("security group delete g1")
    await openstack("subnet delete s1")
    await openstack("network delete n2")
    assert json.loads(await openstack("port list -f json")) == []


@pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK50Warning")  # the SDK warns of itself
@pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK60Warning")
async def test_the_sdk(endpoint):
    await asyncio.to_thread(_use_sdk, endpoint)


def _use_sdk(endpoint: str) -> None:
    with Connection(session=Session(auth=Token(endpoint, "admin@p1"))) as connection:
        client = connection.network
        network = client.create_network(name="n")
        client.create_subnet(network_id=network.id, cidr="10.3.0.0/24", ip_version=4)
        wanted = [{"network_id": network.id, "name": f"p{number}"} for number in range(3)]
        made = list(client.create_ports(wanted))
        assert [port.name for port in made] == ["p0", "p1", "p2"]
        paged = [port.name for port in client.ports(limit=1, sort_key="name", network_id=network.id)]
        assert paged == ["", "p0", "p1", "p2"]
        assert client.update_quota("p1", port=77).ports == 77
        assert client.get_quota("p1", details=True).ports == {"limit": 77, "used": 4, "reserved": 0}
        assert [quota.project_id for quota in client.quotas()] == ["p1"]
        client.delete_quota("p1")
        assert client.get_quota_default("p1").ports == -1
        assert client.find_extension("router") is None
        client.set_tags(network, ["a", "b"])
        assert client.get_network(network.id).tags == ["a", "b"]
        with pytest.raises(ConflictException, match="already allocated"):
            client.create_port(network_id=network.id, fixed_ips=[{"ip_address": "10.3.0.2"}])
        for port in made:
            client.delete_port(port)
        client.delete_network(network)
        assert list(client.networks()) == []
