"""Statements on hosts as administrators see them."""

from muster.domain.hypervisors import Guest, HypervisorQuery, Share, id_prefix, legacy_id
from muster.domain.placement import Demand
from muster.store import hosts as host_store
from muster.store import hypervisors as store

from .compute_cloud import add_hosts, add_server

UUID = "0fedcba9-8765-4321-8fed-cba987654321"


async def test_pages_parts_of_names_and_numbers(database):
    async with database.write() as connection:
        assert await store.read_page(connection, HypervisorQuery()) == []
        assert (await store.read_statistics(connection)).vcpus == 0
        await add_hosts(connection, "b", "a_1", "c", UUID)

        async def names(**query: object) -> list[str]:
            return [host.hostname for host in await store.read_page(connection, HypervisorQuery(**query))]

        assert await names() == [UUID, "a_1", "b", "c"]
        assert await names(limit=2, marker="a_1") == ["b", "c"]
        assert await names(marker="none") == []
        assert await names(hostname_part="_") == ["a_1"]
        assert await names(hostname_part="%") == []
        assert (await store.read(connection, ["b", "none"]))["b"].ram_mib == 10_000
        assert {name: host.id for name, host in (await store.read_named(connection, ["c", "none"])).items()} == {
            "c": "c"
        }
        assert (await store.read_by_prefix(connection, id_prefix(legacy_id(UUID)))).id == UUID
        assert await store.read_by_prefix(connection, id_prefix(legacy_id(UUID) + 1)) is None
        assert id_prefix(16**13) is None


async def test_claims_guests_and_statistics(database):
    async with database.write() as connection:
        await add_hosts(connection, "a", "b", "c")
        await host_store.claim(connection, {"a": (Demand(vcpus=2, ram_mib=100, disk_gib=3), 2)})
        await add_server(connection, "s1", name="one", host_id="a", created_at=2.0)
        await add_server(connection, "s2", name="two", host_id="a", created_at=1.0)
        await add_server(connection, "s3", name="gone", host_id="a", deleted_at=1.0)
        assert await store.write(connection, "c", {"disabled": True, "disabled_reason": "x"})
        assert not await store.write(connection, "none", {"disabled": True})
        assert await store.read_guests(connection, ["a", "b"]) == {"a": [Guest("s2", "two"), Guest("s1", "one")]}
        assert await store.read_shares(connection, "a") == [Share("x", 2, 1024, 2)]
        together = await store.read_statistics(connection)
        assert (together.count, together.vcpus, together.vcpus_used, together.ram_taken_mib) == (2, 16, 2, 100)
        assert (together.disk_used_gib, together.servers_used, together.ram_mib) == (3, 2, 20_000)


async def test_a_host_is_removed_once_its_servers_are_gone(database):
    async with database.write() as connection:
        await add_hosts(connection, "a", "b")
        await host_store.claim(connection, {"a": (Demand(vcpus=1), 1)})
        await add_server(connection, "s1", host_id="a", deleted_at=5.0)
        assert not await store.remove(connection, "a")
        await host_store.release(connection, {"a": (Demand(vcpus=1), 1)})
        assert await store.remove(connection, "a")
        assert not await store.remove(connection, "a")
        assert [host.id for host in await store.read_page(connection, HypervisorQuery())] == ["b"]
