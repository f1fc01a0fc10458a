"""Placement reads as many hosts as there are servers, not all: what it decides is what it would decide with all."""

from random import Random

import pytest
from sqlalchemy import update

from muster.domain.placement import Demand, Request, Strategy, place, searches
from muster.domain.reports import HostCapacity
from muster.domain.servers import FlavorPicture, NewServer
from muster.services.server_placement import Placement, ServerSettings
from muster.store import hosts as store
from muster.store.engine import Connection, Database
from muster.store.hosts import hosts

from .compute_cloud import add_hosts

N_HOSTS = 40
NOW = 100.0


async def some_hosts(connection: Connection, rng: Random) -> None:
    """Hosts with something left of this and nothing of that; some that get no servers."""
    for number in range(N_HOSTS):
        capacity = HostCapacity(
            vcpus=rng.choice((0, 1, 2, 4)), ram_mib=512 * rng.randrange(1, 8), disk_gib=rng.choice((0, 5, 50))
        )
        zone = rng.choice(("a", "b"))
        await add_hosts(
            connection, f"h{number:02}", now=NOW, capacity=capacity, availability_zone=zone, firewall=number % 2 == 0
        )
    for name, values in (("h00", {"disabled": True}), ("h01", {"forced_down": True}), ("h02", {"last_seen_at": 1.0})):
        await connection.execute(update(hosts).where(hosts.c.id == name).values(values))
    await connection.execute(update(hosts).where(hosts.c.id.in_(["h04", "h06"])).values(servers_used=999))


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize("zone", [None, "a"])
async def test_servers_alike_go_where_they_would_go_of_all_hosts(
    database: Database, strategy: Strategy, zone: str | None
) -> None:
    rng = Random(1)
    async with database.write() as connection:
        await some_hosts(connection, rng)
        everywhere = await store.read_pictures(connection, seen_after=50.0)
        for count in (1, 2, 5, 17, 60):
            demand = Demand(
                vcpus=rng.randrange(3), ram_mib=512 * rng.randrange(3), disk_gib=rng.randrange(9), servers=1
            )
            requests = [Request(server_id=f"s{n}", demand=demand, availability_zone=zone) for n in range(count)]
            [wanted] = searches(requests)
            found = await store.search(connection, wanted, strategy, seen_after=50.0)
            assert len(found) <= count
            assert place(found, requests, strategy) == place(everywhere, requests, strategy)


async def test_a_server_has_no_place_only_if_no_host_has_room(database: Database) -> None:
    """Also where servers are not alike: one that finds no place among the hosts read is placed among all."""
    rng = Random(2)
    async with database.write() as connection:
        await some_hosts(connection, rng)
        for _ in range(12):
            drafts = [draft(f"s{n}", rng) for n in range(rng.choice((1, 3, 8)))]
            placement = Placement(connection, NOW, ServerSettings(strategy=rng.choice(list(Strategy))))
            placed = await placement.place(drafts)
            await placement.settle([one for one in drafts if one.id in placed], placed)
            left = await store.read_pictures(connection, seen_after=50.0)
            for one in drafts:
                needs = Demand(
                    vcpus=one.flavor.vcpus, ram_mib=one.flavor.ram_mib, disk_gib=one.flavor.disk_gib, servers=1
                )
                fits = [h for h in left if one.availability_zone in (None, h.availability_zone) and needs.fits(h.free)]
                assert one.id in placed or not fits


async def test_few_hosts_are_read_for_few_servers(database: Database) -> None:
    async with database.write() as connection:
        await add_hosts(connection, *(f"h{number:02}" for number in range(N_HOSTS)), now=NOW)
        placement = Placement(connection, NOW, ServerSettings())
        assert len(await placement.place([draft("s", Random(3), zone="nova")])) == 1
        assert len(placement.hosts) == 1
        named = draft("t", Random(3), zone="nova", wanted_hostname="h33")
        assert await placement.place([named]) == {"t": "h33"}


def draft(server_id: str, rng: Random, zone: str | None = None, **fields: object) -> NewServer:
    flavor = FlavorPicture(
        id="f", name="f", vcpus=rng.randrange(3), ram_mib=256 * rng.randrange(4), disk_gib=rng.randrange(9)
    )
    values: dict[str, object] = {
        **dict.fromkeys(("project_id", "user_id", "name", "hostname", "reservation_id", "request_id"), "x"),
        "id": server_id,
        "accepted_at": 1.0,
        "flavor": flavor,
        "availability_zone": zone or rng.choice((None, "a", "b")),
        **fields,
    }
    return NewServer(**values)  # type: ignore[arg-type]
