"""Transactions that change the same rows take them in one order: none waits for another that waits for it."""

import asyncio
import time

import pytest
from sqlalchemy import select

from muster.base.clock import system_clock
from muster.base.ids import new_uuid
from muster.base.metrics import REDECIDED
from muster.bus.memory import MemoryBus
from muster.domain.messages import Hello
from muster.domain.port_changes import PortChanges
from muster.domain.ports import NewPort
from muster.domain.servers import Asked, Verb, WantedNic
from muster.services.dispatcher import Dispatcher
from muster.services.host_reports import HostReports
from muster.services.server_admission import Wanted
from muster.store import aggregates, server_ports, tags
from muster.store.engine import Database
from muster.store.hosts import hosts
from muster.store.network_members import network_members
from muster.store.ports import ports
from muster.store.servers import servers

from .compute_cloud import CAPACITY, add_hosts
from .paused import Paused
from .workers import ADMIN, Worker, a_network, a_server, workers

# SQLite has one writer: there transactions follow each other.
pytestmark = pytest.mark.parametrize("database", ["postgresql"], indirect=True)

HANG_S = 300.0
#: Hosts that were heard of as late as that are there however long a test takes.
HOUR_S = 3_600.0


@pytest.fixture
async def both(database: Database, tmp_path):
    """Two workers, and hosts h0 to h2 with tunnels between them."""
    async with database.write() as connection:
        for index in range(3):
            await add_hosts(connection, f"h{index}", now=time.time() + HOUR_S, host_ip=f"192.0.2.{index + 1}")
    async with workers(database, tmp_path) as both:
        yield both


async def _create(worker: Worker, *places: tuple[str, str]) -> list[str]:
    """Servers, each on a host and a network, in one batch: their ids."""
    requests = [Wanted((a_server("p", network, wanted_hostname=host),), 1) for host, network in places]
    made = await worker.creation._create(requests)
    assert [server.fault for [server] in made] == [None] * len(made)
    return [server.id for [server] in made]


def _decided_again() -> float:
    return sum(sample.value for metric in REDECIDED.collect() for sample in metric.samples if "total" in sample.name)


async def test_servers_that_are_a_networks_first_on_their_hosts(database, both):
    """What the network's other hosts must hear is written with the claims, in one order, not before them."""
    mine, others, plain = [await a_network(worker, None) for worker in (both[0], both[1], both[0])]
    await _create(both[0], ("h1", mine), ("h0", plain))
    await _create(both[1], ("h2", others))
    before = _decided_again()
    both[0].creation._ports.changes = paused = Paused("bindings_changed")
    # One batch is new on h2, which h1 must hear of, and claims h0 as well; the other claims h0, which h2 must hear of.
    first = asyncio.create_task(_create(both[0], ("h2", mine), ("h0", plain)))
    async with asyncio.timeout(HANG_S):
        await paused.reached.wait()
        await _create(both[1], ("h0", others))  # does not wait for the other, which has no host's row yet
        paused.go.set()
        await first
    assert _decided_again() == before
    async with database.read() as connection:
        rows = await connection.execute(select(network_members.c.network_id, network_members.c.host_id))
        members = {tuple(row) for row in rows}
    assert members == {(mine, "h1"), (mine, "h2"), (plain, "h0"), (others, "h2"), (others, "h0")}


async def test_a_port_is_deleted_while_its_server_ends(database, both):
    network_id = await a_network(both[0], None)
    [server_id] = await _create(both[0], ("h0", network_id))
    async with database.read() as connection:
        port_id = (await connection.execute(select(ports.c.id).where(ports.c.device_id == server_id))).scalar_one()
    server = await both[1].orders.ask(ADMIN, server_id, Asked(verb=Verb.DELETE), "req")
    before = _decided_again()
    both[0].network.ports._batch.changes = paused = Paused("members_changed")
    deletion = asyncio.create_task(both[0].network.ports.delete(ADMIN, port_id))
    async with asyncio.timeout(HANG_S):
        await paused.reached.wait()
        end = asyncio.create_task(both[1].orders.finish_all([server]))
        await asyncio.wait({end}, timeout=1.0)  # it waits for the port, or for its server
        paused.go.set()
        await asyncio.gather(deletion, end)
    assert _decided_again() == before


async def test_a_port_is_changed_while_its_server_ends(database, both):
    network_id = await a_network(both[0])
    draft = NewPort(id=new_uuid(), project_id="p", network_id=network_id)
    port = await both[0].network.ports.create(ADMIN, draft)
    [server] = await both[0].creation.create([a_server("p", wanted_hostname="h0", nics=(WantedNic(port_id=port.id),))])
    server = await both[1].orders.ask(ADMIN, server.id, Asked(verb=Verb.DELETE), "req")
    before = _decided_again()
    both[0].network.ports._batch.changes = paused = Paused("servers_changed", before=True)
    change = asyncio.create_task(both[0].network.ports.update(ADMIN, port.id, PortChanges(security_group_ids=())))
    async with asyncio.timeout(HANG_S):
        await paused.reached.wait()
        end = asyncio.create_task(both[1].orders.finish_all([server]))
        await asyncio.wait({end}, timeout=1.0)
        paused.go.set()
        await asyncio.gather(change, end)
    assert _decided_again() == before


@pytest.mark.parametrize("what", ["deleted", "changed"])
async def test_a_port_becomes_a_servers_while_it_is_changed(database, both, monkeypatch, what):
    """The server's host hears of it: who changes the port finds out with the port's row held, and begins anew."""
    port = await both[0].network.ports.create(
        ADMIN, NewPort(id=new_uuid(), project_id="p", network_id=await a_network(both[0], None))
    )
    read_owners, made = server_ports.read_owners, []

    async def read_and_lose_time(connection, port_ids):
        found = await read_owners(connection, port_ids)
        if not made:
            draft = a_server("p", wanted_hostname="h0", nics=(WantedNic(port_id=port.id),))
            made.extend(await both[1].creation.create([draft]))
        return found

    monkeypatch.setattr(server_ports, "read_owners", read_and_lose_time)
    before = _decided_again()
    async with asyncio.timeout(HANG_S):
        if what == "deleted":
            await both[0].network.ports.delete(ADMIN, port.id)
        else:
            await both[0].network.ports.update(ADMIN, port.id, PortChanges(security_group_ids=()))
    assert _decided_again() == before + 1
    async with database.read() as connection:
        statement = select(servers.c.generation).where(servers.c.id == made[0].id)
        assert (await connection.execute(statement)).scalar_one() > made[0].generation


async def test_a_server_is_placed_while_its_host_says_hello(database, both):
    """What a Hello means for networks, whose rows come before hosts', is written with no host's row held."""
    mine = await a_network(both[0], None)
    await _create(both[0], ("h1", mine))
    bus = MemoryBus()
    reports = HostReports(database, bus, system_clock, Dispatcher(database, bus, system_clock), both[0].orders)
    reports._outbox = paused = Paused("hosts_introduced", before=True)
    async with database.read() as connection:
        row = (await connection.execute(select(hosts).where(hosts.c.id == "h0"))).one()
    hello = Hello(
        host_id="h0",
        hostname="h0",
        hypervisor_type=row.hypervisor_type,
        hypervisor_version=row.hypervisor_version,
        host_ip=row.host_ip,
        capacity=CAPACITY,
    )
    before = _decided_again()
    said = asyncio.create_task(reports.take([hello]))
    async with asyncio.timeout(HANG_S):
        await paused.reached.wait()
        await _create(both[1], ("h0", mine))  # holds the network's row, and then the host's
        paused.go.set()
        await said
    assert _decided_again() == before


async def test_a_port_is_deleted_while_its_tags_are_replaced(database, both, monkeypatch):
    draft = NewPort(id=new_uuid(), project_id="p", network_id=await a_network(both[0], None), tags=("old",))
    port = await both[0].network.ports.create(ADMIN, draft)
    remove, reached, go = tags.remove, asyncio.Event(), asyncio.Event()

    async def remove_and_lose_time(connection, resource_id, names=None):
        count = await remove(connection, resource_id, names)
        reached.set()
        await go.wait()
        return count

    monkeypatch.setattr(tags, "remove", remove_and_lose_time)
    before = _decided_again()
    change = asyncio.create_task(both[0].network.tags.replace(ADMIN, "ports", port.id, ["new"]))
    async with asyncio.timeout(HANG_S):
        await reached.wait()
        deletion = asyncio.create_task(both[1].network.ports.delete(ADMIN, port.id))
        await asyncio.wait({deletion}, timeout=1.0)  # it waits for the port
        go.set()
        await asyncio.gather(change, deletion)
    assert _decided_again() == before
    async with database.read() as connection:
        assert await tags.read(connection, [port.id]) == {}


async def test_hosts_whose_zones_change_are_taken_in_order(database):
    names = ["h2", "h1", "h0"]  # and so they lie in the table
    for name in names:
        async with database.write() as connection:
            await add_hosts(connection, name)

    async def rezone() -> None:
        async with database.write() as connection:
            await aggregates.apply_zones(connection, names)

    rows = select(hosts.c.id).order_by(hosts.c.id)
    async with database.write() as connection, asyncio.timeout(HANG_S):
        await connection.execute(rows.where(hosts.c.id == "h1").with_for_update())
        change = asyncio.create_task(rezone())
        free = set(names)
        while free == set(names):  # until it has come to the one that is held
            async with database.write() as other:
                free = set((await other.execute(rows.with_for_update(skip_locked=True))).scalars()) | {"h1"}
    assert free == {"h1", "h2"}
    await asyncio.wait_for(change, HANG_S)
