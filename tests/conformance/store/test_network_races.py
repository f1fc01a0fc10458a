"""Two workers do everything at once: every answer is one that a user may get, and what is counted is what is there."""

import asyncio
from collections.abc import Awaitable
from random import Random

import pytest
from sqlalchemy import func, insert, select

from muster.base.errors import Conflict, Exhausted, Invalid, NotFound
from muster.base.ids import new_uuid
from muster.domain.network_listing import ListQuery
from muster.domain.networks import NewNetwork
from muster.domain.port_changes import PortChanges
from muster.domain.ports import NewPort
from muster.domain.security_groups import NewRule, NewSecurityGroup
from muster.domain.subnets import NewSubnet, SubnetChanges
from muster.store import network_members, networks, ports, security_groups, subnets, usages
from muster.store.engine import Database
from muster.store.hosts import hosts

from .network_cloud import ADMIN, MEMBER, network_cloud

TUNNELS = {"h0": "192.0.2.1", "h1": "192.0.2.2"}  # a third host has none
ROUNDS = 5
AT_ONCE = 60
TABLES = {
    "network": networks.networks,
    "subnet": subnets.subnets,
    "port": ports.ports,
    "security_group": security_groups.security_groups,
    "security_group_rule": security_groups.security_group_rules,
}


class Users:
    """Asks one of the workers for something at random."""

    def __init__(self, workers, rng: Random) -> None:
        self._workers = workers
        self._rng = rng
        self._networks: list[str] = []
        self._groups: list[str] = []
        self._ports: list[str] = []
        self._choices = [
            (self.make_network, 5),
            (self.make_subnet, 8),
            (self.change_subnet, 4),
            (self.delete_subnet, 4),
            (self.delete_network, 3),
            (self.make_group, 5),
            (self.make_rule, 8),
            (self.delete_group, 4),
            (self.make_port, 40),
            (self.change_port, 10),
            (self.delete_port, 15),
            (self.bind_port, 15),
        ]

    def act(self) -> Awaitable[None]:
        actions, weights = zip(*self._choices, strict=True)
        return self._rng.choices(actions, weights)[0](self._rng.choice(self._workers))

    async def make_network(self, worker) -> None:
        [made] = await worker.networks.create(MEMBER, [NewNetwork(id=new_uuid(), project_id="p1")])
        self._networks.append(made.id)

    async def make_subnet(self, worker) -> None:
        cidr = f"10.{self._rng.randrange(3)}.0.0/24"
        network_id = self._one(self._networks)
        draft = NewSubnet(id=new_uuid(), project_id="p1", network_id=network_id, ip_version=4, cidr=cidr)
        await worker.subnets.create(MEMBER, [draft])

    async def change_subnet(self, worker) -> None:
        changes = SubnetChanges(dns_nameservers=("10.9.9.9",), enable_dhcp=self._rng.random() < 0.5)
        await worker.subnets.update(MEMBER, await self._a_subnet(worker), changes)

    async def delete_subnet(self, worker) -> None:
        await worker.subnets.delete(MEMBER, await self._a_subnet(worker))

    async def delete_network(self, worker) -> None:
        await worker.networks.delete(MEMBER, self._one(self._networks))

    async def make_group(self, worker) -> None:
        [made] = await worker.security_groups.create(MEMBER, [NewSecurityGroup(id=new_uuid(), project_id="p1")])
        self._groups.append(made.id)

    async def make_rule(self, worker) -> None:
        draft = NewRule(
            id=new_uuid(),
            project_id="p1",
            security_group_id=self._one(self._groups),
            direction="ingress",
            remote_group_id=self._one(self._groups),
            protocol=str(self._rng.randrange(50)),
        )
        await worker.security_group_rules.create(MEMBER, [draft])

    async def delete_group(self, worker) -> None:
        await worker.security_groups.delete(MEMBER, self._one(self._groups))

    async def make_port(self, worker) -> None:
        draft = NewPort(
            id=new_uuid(),
            project_id="p1",
            network_id=self._one(self._networks),
            security_group_ids=(self._one(self._groups),) if self._rng.random() < 0.5 else None,
            binding_host_id=f"h{self._rng.randrange(3)}",
        )
        self._ports.append((await worker.ports.create(ADMIN, draft)).id)

    async def change_port(self, worker) -> None:
        changes = PortChanges(security_group_ids=(self._one(self._groups),), fixed_ips=())
        await worker.ports.update(MEMBER, self._one(self._ports), changes)

    async def bind_port(self, worker) -> None:
        hostname = self._rng.choice(("", "h0", "h1", "h2"))
        await worker.ports.update(ADMIN, self._one(self._ports), PortChanges(binding_host_id=hostname))

    async def delete_port(self, worker) -> None:
        await worker.ports.delete(MEMBER, self._one(self._ports))

    async def _a_subnet(self, worker) -> str:
        return self._one([subnet.id for subnet in await worker.subnets.page(MEMBER, ListQuery())])

    def _one(self, ids: list[str]) -> str:
        return self._rng.choice(ids) if ids else "nothing"


async def test_two_workers_at_once(database, tmp_path):
    second = Database(database.url)
    await _make_hosts(database)
    try:
        async with network_cloud(database, tmp_path) as one, network_cloud(second, tmp_path, "two") as two:
            users = Users([one, two], Random(5))
            for _ in range(ROUNDS):
                outcomes = await asyncio.gather(*(users.act() for _ in range(AT_ONCE)), return_exceptions=True)
                odd = [
                    one
                    for one in outcomes
                    if not isinstance(one, type(None) | NotFound | Conflict | Invalid | Exhausted)
                ]
                assert not odd, odd
        async with database.read() as connection:
            counted = await usages.read(connection, ["p1"])
            for resource, table in TABLES.items():
                there = (await connection.execute(select(func.count()).select_from(table))).scalar_one()
                assert counted["p1", resource] == there, resource
            told = set((await connection.execute(select(network_members.network_members))).all())
            bound = select(ports.ports.c.network_id, ports.ports.c.binding_host_id).distinct()
            true = {(network_id, h, TUNNELS[h]) for network_id, h in await connection.execute(bound) if h in TUNNELS}
            assert told == true
            assert true
    finally:
        await second.close()


async def _make_hosts(database: Database) -> None:
    numbers = ("hypervisor_version", "vcpus", "ram_mib", "disk_gib", "vcpus_limit", "ram_limit_mib", "disk_limit_gib")
    common = {**dict.fromkeys(numbers, 1), "hypervisor_type": "x", "host_ip": "x", "firewall": True}
    times = dict.fromkeys(("created_at", "updated_at", "last_seen_at"), 1.0)
    async with database.write() as connection:
        for number in range(3):
            row = {**common, **times, "id": f"h{number}", "hostname": f"h{number}"}
            row["host_ip"] = TUNNELS.get(f"h{number}", "127.0.0.1")
            await connection.execute(insert(hosts).values(**row))


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # SQLite has one writer
async def test_a_port_is_deleted_while_it_gets_an_address_of_a_new_subnet(database: Database, tmp_path, monkeypatch):
    """The subnet is made all the same, for the ports that are left."""
    async with network_cloud(database, tmp_path, "one") as one, network_cloud(database, tmp_path, "two") as two:
        [network] = await one.networks.create(MEMBER, [NewNetwork(id=new_uuid(), project_id="p1")])
        doomed, left = [
            await one.ports.create(MEMBER, NewPort(id=new_uuid(), project_id="p1", network_id=network.id))
            for _ in range(2)
        ]
        read_macs = ports.read_macs

        async def read_and_lose_time(connection, network_id):
            found = await read_macs(connection, network_id)
            if any(port_id == doomed.id for port_id, _ in found):
                await two.ports.delete(MEMBER, doomed.id)
            return found

        monkeypatch.setattr(ports, "read_macs", read_and_lose_time)
        draft = NewSubnet(
            id=new_uuid(),
            project_id="p1",
            network_id=network.id,
            ip_version=6,
            cidr="fd00::/64",
            ipv6_address_mode="slaac",
            ipv6_ra_mode="slaac",
        )
        [subnet] = await one.subnets.create(MEMBER, [draft])
        assert [ip.subnet_id for ip in (await one.ports.get(MEMBER, left.id)).fixed_ips] == [subnet.id]
