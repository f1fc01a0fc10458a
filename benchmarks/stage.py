"""What benchmarks run on: a fresh cloud or the floor, each in a process of its own, and a client of its public APIs."""

import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path

import msgspec

from benchmarks.floor import Floor
from muster.bench.launch import Launch, Launched, cloud_launch, launched
from muster.client.api import Api, Call, Tally
from muster.client.bodies import ImageList
from muster.client.cloud import Cloud, Service, connect
from muster.client.http import HttpClient, Request
from muster.client.open_files import ensure_open_files

OPEN_FILES = 4_000
# A disk image for simulated servers, which never read it.
EMPTY_DISK = bytes(512)


class Made(msgspec.Struct, frozen=True):
    """The id of what was made."""

    id: str


class MadeNetwork(msgspec.Struct, frozen=True):
    network: Made


class MadeSubnet(msgspec.Struct, frozen=True):
    subnet: Made


class Stage(msgspec.Struct, frozen=True):
    """A running cloud, logged in as its administrator."""

    process: Launched
    cloud: Cloud
    client: HttpClient
    api: Api

    async def token(self) -> str:
        """A token for requests that are not sent by `api`."""
        return await self.cloud.tokens.current()

    def url(self, service: Service, path: str) -> str:
        """The address of a resource."""
        return self.cloud.endpoints[service] + path

    async def ensure_image(self) -> None:
        """There is an image: a cloud without one gets an empty disk named `guest`."""
        found = await self.api.get(Call("GET images", "GET", Service.IMAGE, "/images"), ImageList)
        if found.images:
            return
        body = {"name": "guest", "disk_format": "raw", "container_format": "bare", "visibility": "public"}
        call = Call("POST images", "POST", Service.IMAGE, "/images", body, ok=(201,))
        image = await self.api.get(call, Made)
        headers = {"X-Auth-Token": await self.token(), "Content-Type": "application/octet-stream"}
        url = self.url(Service.IMAGE, f"/images/{image.id}/file")
        await self.client.send(Request("PUT", url, headers, EMPTY_DISK))

    async def network(self, name: str, free: int) -> str:
        """A network with one subnet of exactly `free` free addresses; its id."""
        body = {"network": {"name": name}}
        call = Call("POST networks", "POST", Service.NETWORK, "/networks", body, ok=(201,))
        network_id = (await self.api.get(call, MadeNetwork)).network.id
        first = IPv4Address("10.128.1.0")
        subnet = {
            "network_id": network_id,
            "ip_version": 4,
            "cidr": "10.128.0.0/12",
            "gateway_ip": None,
            "enable_dhcp": False,
            "allocation_pools": [{"start": str(first), "end": str(first + free - 1)}],
        }
        call = Call("POST subnets", "POST", Service.NETWORK, "/subnets", {"subnet": subnet}, ok=(201,))
        await self.api.get(call, MadeSubnet)
        return network_id

    async def drop_network(self, network_id: str) -> None:
        """Delete a network whose ports are gone."""
        path = f"/networks/{network_id}"
        await self.api.send(Call("DELETE networks", "DELETE", Service.NETWORK, path, ok=(204,)))


@asynccontextmanager
async def a_cloud(sim_hosts: int) -> AsyncIterator[Stage]:
    """A fresh cloud, gone with its folder at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="muster-benchmark-") as folder:
        async with on_stage(cloud_launch(Path(folder), sim_hosts=sim_hosts)) as stage:
            await stage.ensure_image()
            yield stage


@asynccontextmanager
async def on_stage(launch: Launch) -> AsyncIterator[Stage]:
    """Whatever is launched and writes a clouds.yaml."""
    ensure_open_files(OPEN_FILES)
    async with launched(launch) as process:
        cloud = await connect("muster", (str(process.clouds_yaml),), time.monotonic)
        try:
            async with HttpClient(cloud.tls) as client:
                yield Stage(process, cloud, client, Api(client, cloud, Tally()))
        finally:
            cloud.tokens.close()


@asynccontextmanager
async def the_floor(kind: Floor) -> AsyncIterator[Launched]:
    """The bare server."""
    ensure_open_files(OPEN_FILES)
    with tempfile.TemporaryDirectory(prefix="muster-floor-") as folder:
        arguments = ("-m", "benchmarks.floor", "--kind", kind.value, "--data", folder)
        async with launched(Launch(arguments=arguments, folder=Path(folder))) as process:
            yield process
