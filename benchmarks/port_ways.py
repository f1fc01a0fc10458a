"""Muster's own cloud, but with addresses given out in other ways, to be measured beside Muster's. For benchmarks only.

Everything else is the same: HTTP, tokens, quotas, security groups, rows, the database and its durability. The ways:

    retry-10    read the allocations, pick a free address, write it with the port; when another was faster, redo the
                whole creation: 10 tries, 0.1 s apart (what stock Neutron did for years)
    retry-20    the same with 20 tries, 0.5 s apart at first, doubling up to 10 s (what it does now)
    lock        one Tooz lock per port: taken, the address chosen, the port committed, released

The picks are as kind to the retries as today's Neutron is: a random one of the first 1,000 free addresses.
"""

import argparse
import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from ipaddress import ip_address
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from benchmarks.serving import listening, serve
from muster.base.errors import Conflict, Exhausted
from muster.cli.cloud import CloudSettings, running
from muster.cli.control_plane import Cloud
from muster.cli.secrets import admin_password, write_clouds_yaml
from muster.domain.addresses import to_text
from muster.domain.context import Context
from muster.domain.network_listing import ListQuery
from muster.domain.ports import NewPort, Port, WantedIp
from muster.domain.subnets import Subnet
from muster.locks.protocol import Grant
from muster.services.port_batch import PortBatch
from muster.services.ports import Ports
from muster.store.addresses import read_all_given

WINDOW = 1_000

Create = Callable[[Context, NewPort], Coroutine[Any, Any, Port]]


class Way(StrEnum):
    """The other ways."""

    RETRY_10 = "retry-10"
    RETRY_20 = "retry-20"
    LOCK = "lock"


class Retries(msgspec.Struct, frozen=True):
    """How often a creation is tried, and the pauses between."""

    tries: int
    pause_s: float
    factor: float = 1.0
    longest_s: float = 10.0


RETRIES = {Way.RETRY_10: Retries(10, 0.1), Way.RETRY_20: Retries(20, 0.5, 2.0)}


class NoLocks:
    """See `locks.protocol.LockService`: holds nothing."""

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[Grant]:
        yield Grant(name, 0)

    @asynccontextmanager
    async def hold_all(self, names: Sequence[str]) -> AsyncIterator[dict[str, Grant]]:
        yield {name: Grant(name, 0) for name in names}

    async def close(self) -> None: ...


def lock_per_port(ports: Ports) -> Create:
    """The batch of one: the subnet's lock, a transaction and a commit for each port."""

    async def create(context: Context, draft: NewPort) -> Port:
        [port] = await ports.create_many(context, [draft])
        return port

    return create


class Retrying:
    """Picks outside of any lock and tries again when the address has gone."""

    def __init__(self, cloud: Cloud, ports: Ports, retries: Retries) -> None:
        self._cloud = cloud
        self._ports = ports
        self._retries = retries
        self._subnets: dict[str, Subnet] = {}

    async def create(self, context: Context, draft: NewPort) -> Port:
        """A port. Raises Conflict when all tries were in vain."""
        pause_s = self._retries.pause_s
        for left in reversed(range(self._retries.tries)):
            try:
                wanted = (WantedIp(ip_address=await self._pick(context, draft.network_id)),)
                [port] = await self._ports.create_many(context, [msgspec.structs.replace(draft, fixed_ips=wanted)])
            except Conflict:
                if not left:
                    raise
            else:
                return port
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * self._retries.factor, self._retries.longest_s)
        raise AssertionError("the last try returns or raises")

    async def _pick(self, context: Context, network_id: str) -> str:
        subnet = await self._subnet(context, network_id)
        async with self._cloud.database.read() as connection:
            taken = {number for number, _, _ in await read_all_given(connection, subnet.id)}
        free = (
            number
            for pool in subnet.allocation_pools
            for number in range(int(ip_address(pool.start)), int(ip_address(pool.end)) + 1)
            if number not in taken
        )
        window = list(islice(free, WINDOW))
        if not window:
            raise Exhausted("No more IP addresses available on the network.", code="network.IpAddressGenerationFailure")
        return to_text(random.choice(window), subnet.ip_version)

    async def _subnet(self, context: Context, network_id: str) -> Subnet:
        if network_id not in self._subnets:
            found = await self._cloud.network.subnets.page(context, ListQuery(limit=1_000))
            self._subnets.update({subnet.network_id: subnet for subnet in found})
        return self._subnets[network_id]


def creation(cloud: Cloud, way: Way) -> Create:
    """How this way makes one port."""
    ports = cloud.network.ports
    if way is Way.LOCK:
        return lock_per_port(ports)
    batch = ports._batch
    unlocked = PortBatch(
        database=cloud.database,
        locks=NoLocks(),
        clock=batch.clock,
        rng=batch.rng,
        quotas=batch.quotas,
        changes=batch.changes,
        default_groups=batch.default_groups,
    )
    return Retrying(cloud, Ports(cloud.database, unlocked), RETRIES[way]).create


async def run(folder: Path, way: Way) -> None:
    """A whole cloud without hosts whose `POST /ports` goes this way, until told to end."""
    password = admin_password(folder)
    listener, base_url = listening()
    async with running(CloudSettings(folder=folder), password) as cloud:
        cloud.network.ports.create = creation(cloud, way)  # type: ignore[assignment, method-assign]
        write_clouds_yaml(folder, base_url, password)
        await serve(cloud.application, listener, base_url)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--way", type=Way, choices=list(Way), required=True)
    chosen = parser.parse_args()
    uvloop.run(run(chosen.data, chosen.way))
