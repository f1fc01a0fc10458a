"""The metadata service on bridges: two networks with the same addresses, in a network namespace of the test's own."""

import asyncio
import http.client
import subprocess
import uuid
from collections.abc import Iterator

import pytest
from namespaces import inside
from tests.commands import sh

from muster.base.errors import Transient
from muster.domain.specs import FixedIp, PortSpec, Power, ServerSpec
from muster.host.metadata.openstack import Description
from muster.host.metadata.service import MetadataService, MetadataSettings

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.timeout(900)]


@pytest.fixture
def namespaces() -> Iterator[tuple[str, str, str]]:
    """A host with bridges `red` and `blue`, and a guest on each; both guests are 10.0.0.5."""
    mark = uuid.uuid4().hex[:8]
    host, red, blue = (f"muster-md-{name}-{mark}" for name in ("host", "red", "blue"))
    try:
        for namespace in (host, red, blue):
            sh(f"ip netns add {namespace}")
        for guest, bridge in ((red, "red"), (blue, "blue")):
            sh(f"ip -n {host} link add {bridge} type bridge")
            sh(f"ip -n {host} addr add 10.0.0.2/24 dev {bridge}")
            sh(f"ip -n {host} addr add 169.254.169.254/32 dev {bridge}")
            sh(f"ip -n {host} link add tap{bridge} type veth peer name eth0 netns {guest}")
            sh(f"ip -n {host} link set tap{bridge} master {bridge} up")
            sh(f"ip -n {host} link set {bridge} up")
            sh(f"ip -n {guest} addr add 10.0.0.5/24 dev eth0")
            sh(f"ip -n {guest} link set eth0 up")
            sh(f"ip -n {guest} route add 169.254.169.254/32 dev eth0")
        yield host, red, blue
    finally:
        for namespace in (host, red, blue):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, timeout=120, check=False)


def description(name: str, network: str) -> Description:
    port = PortSpec(id=name, network_id=network, mac_address="", fixed_ips=(FixedIp("s", "10.0.0.5"),))
    server = ServerSpec(
        id=name, generation=1, project_id="p", user_id="u", name=name, hostname=name, power=Power.RUNNING, ports=(port,)
    )
    return Description(server=server)


def hostname_in(guest: str) -> str:
    def ask() -> str:
        connection = http.client.HTTPConnection("169.254.169.254", timeout=250)
        try:
            connection.request("GET", "/latest/meta-data/hostname")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    return inside(guest, ask)


def test_guests_with_the_same_address_on_two_bridges_get_their_own(namespaces: tuple[str, str, str]) -> None:
    host, red, blue = namespaces

    async def serve() -> None:
        service = MetadataService(MetadataSettings(bridge_of=lambda network_id: network_id))
        try:
            await service.set_networks(["red", "blue"])
            service.set_servers([description("red-guest", "red"), description("blue-guest", "blue")])
            assert await asyncio.to_thread(hostname_in, red) == "red-guest"
            assert await asyncio.to_thread(hostname_in, blue) == "blue-guest"
            service.remove_servers(["red-guest"])
            assert await asyncio.to_thread(hostname_in, red) == "not found\n"
            # A bridge made anew under its old name is another device.
            for command in (
                f"ip -n {host} link del red",
                f"ip -n {host} link add red type bridge",
                f"ip -n {host} addr add 10.0.0.2/24 dev red",
                f"ip -n {host} addr add 169.254.169.254/32 dev red",
                f"ip -n {host} link set tapred master red",
                f"ip -n {host} link set red up",
            ):
                sh(command)
            service.put_servers([description("red-again", "red")])
            await service.set_networks(["red", "blue"])
            assert await asyncio.to_thread(hostname_in, red) == "red-again"
            with pytest.raises(Transient):
                await service.add_networks(["green"])
        finally:
            await service.close()

    inside(host, lambda: asyncio.run(serve()))
