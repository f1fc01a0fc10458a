"""Hosts as members of networks: who is one, what is logged, and two transactions at once, on both databases."""

import asyncio

from sqlalchemy import delete, insert

from muster.base.ids import new_uuid
from muster.domain.group_members import MemberChange
from muster.domain.messages import Hello
from muster.domain.networks import NewNetwork
from muster.domain.placement import Overcommit
from muster.domain.reports import HostCapacity
from muster.store import hosts as host_store
from muster.store import network_members as store
from muster.store.network_members import Members, Peer
from muster.store.ports import ports

from .network_cloud import MEMBER, network_cloud


def hello(host_id: str, host_ip: str, *, firewall: bool = True) -> Hello:
    return Hello(
        host_id=host_id,
        hostname=f"{host_id}-name",
        hypervisor_type="sim",
        hypervisor_version=1,
        capacity=HostCapacity(vcpus=1, ram_mib=1, disk_gib=1),
        firewall=firewall,
        host_ip=host_ip,
    )


async def a_network(database, tmp_path) -> str:
    async with network_cloud(database, tmp_path) as cloud:
        [network] = await cloud.networks.create(MEMBER, [NewNetwork(id=new_uuid(), project_id="p1", name="n")])
    return network.id


async def say(database, *hellos: Hello) -> None:
    async with database.write() as connection:
        await host_store.write_hellos(connection, hellos, Overcommit(), 1.0)


async def bind(connection, network_id: str, host_id: str) -> str:
    port_id = new_uuid()
    row = {
        "id": port_id,
        "project_id": "p1",
        "network_id": network_id,
        "mac_address": port_id[:17],
        "binding_host_id": f"{host_id}-name",
        "allowed_address_pairs": [],
        "extra_dhcp_opts": [],
        "created_at": 1.0,
        "updated_at": 1.0,
    }
    await connection.execute(insert(ports).values(**row))
    return port_id


async def unbind(connection, port_id: str) -> None:
    await connection.execute(delete(ports).where(ports.c.id == port_id))


async def test_the_first_port_makes_a_member_and_the_last_ends_it(database, tmp_path):
    network = await a_network(database, tmp_path)
    await say(database, hello("a", "192.0.2.1"), hello("b", "192.0.2.2"))
    a, b = Peer(network, "a", "192.0.2.1"), Peer(network, "b", "192.0.2.2")
    async with database.write() as connection:
        one, two, _ = [await bind(connection, network, host) for host in ("a", "a", "b")]
        assert sorted(await store.join(connection, [a, b])) == [a, b]
        assert await store.join(connection, [a, b]) == []
        assert await store.read(connection, [network]) == {network: Members(0, {"a": a.address, "b": b.address})}
        await unbind(connection, one)
        assert await store.leave(connection, [(network, "a"), (network, "b"), (network, "stranger")]) == []
        await unbind(connection, two)
        assert await store.leave(connection, [(network, "a"), (network, "b")]) == [a]
        assert await store.read(connection, [network, "none"]) == {network: Members(0, {"b": b.address})}


async def test_what_is_said_of_a_host_is_made_true(database, tmp_path):
    network, other = await a_network(database, tmp_path), await a_network(database, tmp_path)
    await say(database, hello("a", "127.0.0.1"), hello("b", "192.0.2.2", firewall=False))
    async with database.write() as connection:
        for host in ("a", "b"):
            await bind(connection, network, host)
        await bind(connection, other, "a")
        assert await store.settle(connection, ["a", "b"]) == ([], [])
    await say(database, hello("a", "192.0.2.1"))
    first = sorted(Peer(id_, "a", "192.0.2.1") for id_ in (network, other))
    async with database.write() as connection:
        joined, left = await store.settle(connection, ["a", "b"])
        assert (sorted(joined), left) == (first, [])
        assert await store.settle(connection, ["a", "b"]) == ([], [])
    await say(database, hello("a", "192.0.2.9"), hello("b", "192.0.2.2"))
    second = sorted(Peer(id_, "a", "192.0.2.9") for id_ in (network, other))
    async with database.write() as connection:
        joined, left = await store.settle(connection, ["a", "b"])
        assert sorted(joined) == sorted([*second, Peer(network, "b", "192.0.2.2")])
        assert sorted(left) == first
    await say(database, hello("a", "127.0.0.1"))
    async with database.write() as connection:
        joined, left = await store.settle(connection, ["a", "b"])
        assert (joined, sorted(left)) == ([], second)


async def test_changes_are_logged_and_forgotten(database, tmp_path):
    network = await a_network(database, tmp_path)
    async with database.write() as connection:
        assert await store.log.raise_generations(connection, [network, "gone"]) == {network: 1}
        change = MemberChange(joined=("192.0.2.1",), left=("192.0.2.2",))
        await store.log.insert(connection, {network: change}, {network: 1}, 5.0)
        assert await store.log.read(connection, {network: {1, 2}, "other": {1}}) == {network: {1: change}}
        await store.log.forget(connection, 6.0)
        assert await store.log.read(connection, {network: {1}}) == {}


async def test_a_port_that_comes_while_the_last_one_goes_keeps_the_member(database, tmp_path):
    network = await a_network(database, tmp_path)
    await say(database, hello("a", "192.0.2.1"))
    member = Peer(network, "a", "192.0.2.1")
    async with database.write() as connection:
        old = await bind(connection, network, "a")
        await store.join(connection, [member])
    came = asyncio.Event()

    async def come() -> None:
        async with database.write() as connection:
            await bind(connection, network, "a")
            assert await store.join(connection, [member]) == []
            came.set()
            await asyncio.sleep(0.3)

    async def go() -> None:
        await came.wait()
        async with database.write() as connection:
            await unbind(connection, old)
            assert await store.leave(connection, [(network, "a")]) == []

    await asyncio.gather(come(), go())
    async with database.read() as connection:
        assert (await store.read(connection, [network]))[network].addresses == {"a": member.address}


async def test_a_port_that_comes_after_the_last_one_went_makes_the_member_anew(database, tmp_path):
    network = await a_network(database, tmp_path)
    await say(database, hello("a", "192.0.2.1"))
    member = Peer(network, "a", "192.0.2.1")
    async with database.write() as connection:
        old = await bind(connection, network, "a")
        await store.join(connection, [member])
    went = asyncio.Event()

    async def go() -> None:
        async with database.write() as connection:
            await unbind(connection, old)
            assert await store.leave(connection, [(network, "a")]) == [member]
            went.set()
            await asyncio.sleep(0.3)

    async def come() -> None:
        await went.wait()
        async with database.write() as connection:
            await bind(connection, network, "a")
            assert await store.join(connection, [member]) == [member]

    await asyncio.gather(come(), go())
    async with database.read() as connection:
        assert (await store.read(connection, [network]))[network].addresses == {"a": member.address}


async def test_two_that_bring_the_first_port_at_once_make_one_member(database, tmp_path):
    network = await a_network(database, tmp_path)
    await say(database, hello("a", "192.0.2.1"))
    member = Peer(network, "a", "192.0.2.1")

    async def come() -> list[Peer]:
        async with database.write() as connection:
            await bind(connection, network, "a")
            joined = await store.join(connection, [member])
            await asyncio.sleep(0.2)
            return joined

    assert sorted(await asyncio.gather(come(), come())) == [[], [member]]
