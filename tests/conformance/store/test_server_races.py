"""Several workers place, delete and count the same things at once: never beyond capacity, nothing counted twice."""

import asyncio
import time
from collections import Counter
from random import Random

import pytest
from sqlalchemy import func, select, update

from muster.base.errors import Conflict, Exhausted, Forbidden, NotFound
from muster.base.ids import new_uuid
from muster.base.metrics import REDECIDED
from muster.domain.placement import Demand
from muster.domain.ports import NewPort
from muster.domain.reports import HostCapacity
from muster.domain.servers import Asked, Server, Verb, WantedNic
from muster.services.server_placement import Placement, ServerSettings
from muster.store import hosts as host_store
from muster.store import usages
from muster.store.addresses import addresses
from muster.store.engine import Database
from muster.store.hosts import hosts
from muster.store.ports import ports
from muster.store.servers import servers
from tests.conformance.locks.lying import LyingLocks

from .compute_cloud import FLAVOR, add_hosts, add_server
from .paused import Paused
from .workers import ADMIN, a_network, a_server, workers

# With the overcommit of 1.2 a host has memory for three servers of the flavor.
SMALL = HostCapacity(vcpus=8, ram_mib=1_400, disk_gib=100)
A_HOST_HOLDS = 3
HOSTS = 5
#: Hosts that were heard of as late as that are there however long a test takes.
HOUR_S = 3_600.0
HANG_S = 300.0


async def _hosts(database: Database, count: int = HOSTS) -> None:
    async with database.write() as connection:
        await add_hosts(connection, *(f"h{index}" for index in range(count)), now=time.time() + HOUR_S, capacity=SMALL)


async def _claimed(database: Database) -> dict[str, tuple[int, int]]:
    """(servers, memory) claimed of each host."""
    async with database.read() as connection:
        rows = await connection.execute(select(hosts.c.id, hosts.c.servers_used, hosts.c.ram_used_mib))
        return {row[0]: (row[1], row[2]) for row in rows}


async def _check(database: Database) -> None:
    """Claims and counts are what lives."""
    async with database.read() as connection:
        live = (await connection.execute(select(servers).where(servers.c.deleted_at.is_(None)))).all()
        there = (await connection.execute(select(ports.c.project_id, func.count()).group_by(ports.c.project_id))).all()
        counted = await usages.read(connection, ["p0", "p1", "adm"])
    on = Counter(server.host_id for server in live if server.host_id)
    claimed = await _claimed(database)
    assert claimed == {host_id: (on[host_id], on[host_id] * FLAVOR.ram_mib) for host_id in claimed}
    assert max(on.values(), default=0) <= A_HOST_HOLDS
    owned = Counter(server.project_id for server in live)
    for project_id in ("p0", "p1"):
        assert counted.get((project_id, "instances"), 0) == owned[project_id]
        assert counted.get((project_id, "ram"), 0) == owned[project_id] * FLAVOR.ram_mib
    assert {key[0]: number for key, number in counted.items() if key[1] == "port" and number} == dict(map(tuple, there))


async def test_two_workers_fill_the_hosts_and_no_more(database, tmp_path):
    await _hosts(database)
    async with workers(database, tmp_path) as both:
        network_ids = [await a_network(both[0]), await a_network(both[0])]
        for _ in range(2):
            # Each worker has a project and a network of its own, so that nothing but the hosts is shared.
            made = await asyncio.gather(
                *(
                    both[index % 2].creation.create([a_server(f"p{index % 2}", network_ids[index % 2])])
                    for index in range(HOSTS * A_HOST_HOLDS + 10)
                )
            )
            found = [server for one in made for server in one]
            assert Counter(server.status for server in found) == {"BUILD": HOSTS * A_HOST_HOLDS, "ERROR": 10}
            await _check(database)
            await _delete_by_both(both, found)
            await _check(database)
            assert set((await _claimed(database)).values()) == {(0, 0)}


async def _delete_by_both(both, found: list[Server]) -> None:
    """Both workers are asked for the deletion of every server, and both hear from its host that it is gone."""
    delete = Asked(verb=Verb.DELETE)
    outcomes = await asyncio.gather(
        *(worker.orders.ask(ADMIN, server.id, delete, "req") for server in found for worker in both),
        return_exceptions=True,
    )
    odd = [outcome for outcome in outcomes if not isinstance(outcome, Server | NotFound)]
    assert not odd
    await asyncio.gather(*(worker.orders.finish_all(found) for worker in both))


@pytest.mark.parametrize(
    ("tokens", "lease_s"), [(None, 0.0), ([7], 0.0), ([7], 30.0)], ids=["growing", "the same", "with leases"]
)
async def test_servers_whose_subnets_lock_was_given_to_two(database, tmp_path, tokens, lease_s):
    """The lock protects the subnet's addresses; whatever else a batch writes holds by itself as well."""
    await _hosts(database)
    locks = LyingLocks(tokens)
    wanted = HOSTS * A_HOST_HOLDS
    async with workers(database, tmp_path, locks_of_all=locks, lease_s=lease_s) as both:
        network_id = await a_network(both[0], "10.0.0.0/27")  # 29 addresses
        for _ in range(2):

            async def create(index: int) -> list[Server]:
                await asyncio.sleep(index * 0.003)  # many batches, not one
                return await both[index % 2].creation.create([a_server(f"p{index % 2}", network_id)])

            made = await asyncio.gather(*(create(index) for index in range(wanted)))
            found = [server for one in made for server in one]
            assert Counter(server.status for server in found) == {"BUILD": wanted}
            async with database.read() as connection:
                given = select(addresses.c.ip_address).where(addresses.c.port_id.is_not(None))
                listed = list((await connection.execute(given)).scalars())
            assert len(set(listed)) == len(listed) == wanted
            await _check(database)
            await _delete_by_both(both, found)
            await _check(database)
    assert locks.overlaps > 0 or database.is_sqlite or lease_s  # with leases it is seldom taken


async def test_a_port_that_two_workers_delete_is_given_back_once(database, tmp_path):
    async with workers(database, tmp_path) as both:
        network_id = await a_network(both[0], None)  # without a subnet there is no lock
        for _ in range(3):
            made = [
                await both[0].network.ports.create(
                    ADMIN, NewPort(id=new_uuid(), project_id="p0", network_id=network_id)
                )
                for _ in range(4)
            ]
            await asyncio.gather(
                *(worker.network.ports.delete(ADMIN, port.id) for port in made for worker in both),
                return_exceptions=True,
            )
            await _check(database)


class Outdated(Placement):
    """Sees at first what the hosts were before others claimed: `before` changes them after the first look."""

    def __init__(self, *arguments, before) -> None:
        super().__init__(*arguments, claims_first=True)
        self._before = before
        self.looks = 0

    async def _pictures(self, wanted):
        found = await super()._pictures(wanted)
        self.looks += 1
        if self.looks == 1:
            await self._connection.execute(self._before)
        return found


async def _placed_after(database: Database, change, count: int) -> tuple[Outdated, dict[str, str]]:
    async with database.write() as connection:
        placement = Outdated(connection, time.time(), ServerSettings(), before=change)
        return placement, await placement.place([a_server() for _ in range(count)])


async def test_only_servers_of_a_host_that_others_filled_are_placed_anew(database):
    await _hosts(database, 3)
    filled = update(hosts).where(hosts.c.id == "h1").values(ram_used_mib=FLAVOR.ram_mib * 3)
    placement, placed = await _placed_after(database, filled, 6)
    assert Counter(placed.values()) == {"h0": 3, "h2": 3}
    assert placement.looks == 2
    claimed = await _claimed(database)
    assert (claimed["h0"], claimed["h1"][0], claimed["h2"]) == ((3, 3 * 512), 0, (3, 3 * 512))


async def test_a_host_that_was_disabled_meanwhile_gets_nothing(database):
    await _hosts(database, 2)
    disabled = update(hosts).where(hosts.c.id == "h0").values(disabled=True)
    _, placed = await _placed_after(database, disabled, 5)
    assert Counter(placed.values()) == {"h1": 3}  # and two have no place
    assert (await _claimed(database))["h0"] == (0, 0)


def _decided_again() -> float:
    return REDECIDED.labels("servers.create")._value.get()


async def _two_on_one_host(both, database: Database, first: int, second: int) -> list[str]:
    """The first worker's servers are decided, but not committed, while the second's are made: their states."""
    await _hosts(database, 1)
    # A network without a subnet: nothing but the host is shared.
    network_ids = [await a_network(worker, None) for worker in both]
    both[0].creation._ports.changes = paused = Paused("members_changed", before=True)
    drafts = [
        [a_server(f"p{index}", network_ids[index]) for _ in range(count)] for index, count in enumerate((first, second))
    ]
    made = asyncio.create_task(both[0].creation.create(drafts[0]))
    async with asyncio.timeout(HANG_S):
        await paused.reached.wait()
        made_meanwhile = await both[1].creation.create(drafts[1])
        assert [server.status for server in made_meanwhile] == ["BUILD"] * second
        paused.go.set()
        return [server.status for server in await made]


async def test_batches_on_the_same_hosts_do_not_wait_for_one_another(database, tmp_path):
    if database.is_sqlite:
        return  # one writer: they follow each other
    before = _decided_again()
    async with workers(database, tmp_path) as both:
        assert await _two_on_one_host(both, database, 1, 2) == ["BUILD"]
        await _check(database)
    assert _decided_again() == before


async def test_what_others_claimed_meanwhile_is_decided_again(database, tmp_path):
    if database.is_sqlite:
        return
    before = _decided_again()
    async with workers(database, tmp_path) as both:
        assert sorted(await _two_on_one_host(both, database, 3, 2)) == ["BUILD", "ERROR", "ERROR"]
        await _check(database)
    assert _decided_again() == before + 1


async def test_who_wrote_servers_of_the_same_hosts_claim_them_one_after_the_other(database):
    """A server's row refers to its host's, which must not make two wait for each other: a deadlock raises Stale."""
    if database.is_sqlite:
        return
    await _hosts(database, 3)
    other, both_wrote = Database(database.url), asyncio.Barrier(2)

    async def create(one: Database, name: str) -> None:
        async with one.write() as connection:
            for index in range(3):
                await add_server(connection, f"{name}{index}", host_id=f"h{index}")
            await both_wrote.wait()
            shares = {f"h{index}": (Demand(vcpus=1, ram_mib=FLAVOR.ram_mib), 1) for index in range(3)}
            assert len(await host_store.claim_and_raise(connection, shares, 1.0)) == 3

    async with asyncio.timeout(HANG_S):
        await asyncio.gather(create(database, "a"), create(other, "b"))
    await other.close()
    assert set((await _claimed(database)).values()) == {(2, 2 * FLAVOR.ram_mib)}


class Users:
    """Ask one of the workers for something at random, at the same time as others."""

    def __init__(self, both, network_ids: list[str], rng: Random) -> None:
        self._both = both
        self._network_ids = network_ids
        self._rng = rng
        self.servers: list[Server] = []
        self._ports: list[str] = []
        self._choices = [
            (self.make_servers, 30),
            (self.make_server_on_a_port, 10),
            (self.delete_server, 25),
            (self.hear_of_the_end, 15),
            (self.make_port, 15),
            (self.delete_port, 15),
        ]

    def act(self):
        actions, weights = zip(*self._choices, strict=True)
        return self._rng.choices(actions, weights)[0](self._rng.choice(self._both))

    async def make_servers(self, worker) -> None:
        project_id, network_id = f"p{self._rng.randrange(2)}", self._rng.choice(self._network_ids)
        drafts = [a_server(project_id, network_id) for _ in range(self._rng.randrange(1, 4))]
        self.servers += await worker.creation.create(drafts, least=self._rng.randrange(1, len(drafts) + 1))

    async def make_server_on_a_port(self, worker) -> None:
        nics = (WantedNic(port_id=self._one(self._ports)), WantedNic(network_id=self._rng.choice(self._network_ids)))
        self.servers += await worker.creation.create([a_server("p0", nics=nics)])

    async def delete_server(self, worker) -> None:
        server = self._one(self.servers)
        await worker.orders.ask(ADMIN, server.id, Asked(verb=Verb.DELETE), "req")

    async def hear_of_the_end(self, worker) -> None:
        await worker.orders.finish_all(self._rng.sample(self.servers, min(5, len(self.servers))))

    async def make_port(self, worker) -> None:
        draft = NewPort(id=new_uuid(), project_id="p0", network_id=self._rng.choice(self._network_ids))
        self._ports.append((await worker.network.ports.create(ADMIN, draft)).id)

    async def delete_port(self, worker) -> None:
        await worker.network.ports.delete(ADMIN, self._one(self._ports))

    def _one(self, things):
        if not things:
            raise NotFound("nothing there yet")
        return self._rng.choice(things)


@pytest.mark.parametrize("seed", [1, 2])
async def test_two_workers_do_everything_at_once(database, tmp_path, seed):
    await _hosts(database)
    limits = {"instances": 12, "port": 40}
    async with workers(database, tmp_path, limits=limits) as both:
        # One of the networks has no subnet, so no lock, and one is too small.
        cidrs = ("10.0.0.0/22", "10.0.4.0/29", None)
        users = Users(both, [await a_network(both[0], cidr) for cidr in cidrs], Random(seed))
        for _ in range(4):
            outcomes = await asyncio.gather(*(users.act() for _ in range(40)), return_exceptions=True)
            odd = [
                one for one in outcomes if not isinstance(one, type(None) | NotFound | Conflict | Forbidden | Exhausted)
            ]
            assert not odd, odd
            await _check(database)
        await _delete_by_both(both, users.servers)
        await _check(database)
        assert set((await _claimed(database)).values()) == {(0, 0)}
