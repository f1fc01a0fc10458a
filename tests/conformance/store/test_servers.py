"""Pages of servers, what requests name, and interfaces of servers that exist: the same on both databases."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from muster.base.errors import Conflict, NotFound
from muster.base.ids import new_uuid
from muster.domain.context import Context
from muster.domain.instance_actions import ActionQuery, InstanceAction
from muster.domain.keypairs import Keypair
from muster.domain.network_listing import TagFilter
from muster.domain.networks import NewNetwork
from muster.domain.ports import NewPort
from muster.domain.server_interfaces import Attach, Detach
from muster.domain.server_listing import ServerQuery
from muster.domain.server_lookups import Named, NicAsked
from muster.domain.servers import Fault
from muster.domain.specs import ImageSpec
from muster.domain.subnets import NewSubnet
from muster.services.server_interfaces import ServerInterfaces
from muster.services.servers import Servers
from muster.store import keypairs as key_store
from muster.store import server_listing as listing_store
from muster.store import server_lookups as lookup_store
from muster.store import servers as store
from muster.store.engine import Database
from muster.store.instance_actions import insert as insert_actions
from muster.store.instance_actions import read as read_actions

from .compute_cloud import add_hosts, add_server
from .network_cloud import ADMIN, MEMBER, network_cloud

IMAGE = ImageSpec(id="i", size_bytes=1, sha512="0" * 128, disk_format="raw")


async def _servers(database: Database) -> None:
    """Servers `a` to `d`, that differ in everything that can be sorted by or filtered."""
    async with database.write() as connection:
        await add_hosts(connection, "h1", "h2")
        await add_server(connection, "a", name="web-1", host_id="h1", task_state="deleting", tags=("x", "y"))
        await add_server(connection, "b", name="web_2", host_id="h2", locked=True, locked_by="owner", tags=("x",))
        await add_server(
            connection,
            "c",
            name="DB",
            vm_state="stopped",
            launched_at=5.0,
            config_drive=True,
            created_at=2.0,
            image=IMAGE,
        )
        fault = Fault(500, "m", "d", 3.0)
        await add_server(
            connection, "d", name="100% Ä", vm_state="error", fault=fault, key_name="k", description="words"
        )
        await add_server(connection, "e", name="gone", vm_state="deleted", deleted_at=9.0, updated_at=9.0)


FILTERS: list[tuple[dict[str, Any], str]] = [
    ({}, "dbac"),
    ({"deleted": None}, "edbac"),
    ({"deleted": True}, "e"),
    ({"project_id": "nobody"}, ""),
    ({"patterns": {"name": "web"}}, "ba"),
    ({"patterns": {"name": "^WEB"}}, "ba"),
    ({"patterns": {"name": "web-1|db$"}}, "ac"),
    ({"patterns": {"name": "_"}}, "b"),
    ({"patterns": {"name": "%"}}, "d"),
    ({"patterns": {"name": "Ä"}}, "d"),
    ({"patterns": {"name": "% Ä|^DB$"}, "project_id": "x"}, "dc"),
    ({"patterns": {"name": "^WEB"}, "project_id": "x"}, "ba"),
    ({"patterns": {"name": "gone"}, "project_id": "x"}, ""),
    ({"patterns": {"description": "ord"}}, "d"),
    ({"patterns": {"availability_zone": "nova"}}, "ba"),
    ({"patterns": {"host": "h"}}, "ba"),
    ({"filters": {"host": ("h1",)}}, "a"),
    ({"filters": {"host": ("h1", "h2", "h3")}, "project_id": "x"}, "ba"),
    ({"filters": {"host": ("h1",)}, "project_id": "nobody"}, ""),
    ({"filters": {"host": ("h1",)}, "deleted": None, "vm_states": ("error",)}, ""),
    ({"filters": {"image_id": ("i", "j")}}, "c"),
    ({"filters": {"image_id": ("i",)}, "project_id": "nobody"}, ""),
    ({"filters": {"image_id": ("j",)}, "patterns": {"name": "db"}}, ""),
    ({"filters": {"locked": (True,)}}, "b"),
    ({"filters": {"config_drive": (False,)}}, "dba"),
    ({"filters": {"power_state": (0,), "launch_index": (0,)}}, "dbac"),
    ({"filters": {"power_state": ()}}, ""),
    ({"filters": {"uuid": ("a", "c")}}, "ac"),
    ({"moments": {"launched_at": 5.0}}, "c"),
    ({"moments": {"created_at": 4.5}}, ""),
    ({"vm_states": ("error", "stopped")}, "dc"),
    ({"task_states": ("deleting",)}, "a"),
    ({"vm_states": ("active", "error"), "task_states": ("deleting",)}, "a"),
    ({"vm_states": ("error", "stopped"), "project_id": "x"}, "dc"),
    ({"vm_states": ("error", "stopped"), "project_id": "nobody"}, ""),
    ({"vm_states": ("active", "error"), "project_id": "x"}, "dba"),
    ({"vm_states": ("deleted",), "deleted": True}, "e"),
    ({"vm_states": ("deleted", "error"), "deleted": None}, "ed"),
    ({"changes_since": 5.0, "deleted": None}, "e"),
    ({"changes_before": 5.0, "deleted": None}, "dbac"),
    ({"changes_since": 5.0, "deleted": None, "project_id": "x", "patterns": {"name": "o"}}, "e"),
    ({"changes_since": 1.0, "project_id": "x", "patterns": {"name": "web"}}, "ba"),
    ({"changes_since": 1.0, "project_id": "nobody", "patterns": {"name": "web"}}, ""),
    ({"project_id": "x", "patterns": {"name": "B"}, "vm_states": ("stopped",)}, "c"),
    ({"project_id": "nobody", "patterns": {"name": "web"}}, ""),
    ({"tags": TagFilter(all_of=("x", "y"))}, "a"),
    ({"tags": TagFilter(any_of=("y", "z"))}, "a"),
    ({"tags": TagFilter(not_all_of=("x", "y"))}, "dbc"),
    ({"tags": TagFilter(not_any_of=("x",))}, "dc"),
    ({"ip": "10."}, ""),
    ({"ip6": "10."}, ""),
]


@pytest.mark.parametrize("few", [0, 1, 1_000])
async def test_filters(database: Database, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether few servers meet a condition that has an index, or many."""
    monkeypatch.setattr(listing_store, "_FEW", few)
    await _servers(database)
    async with database.read() as connection:
        for fields, ids in FILTERS:
            query = ServerQuery(sort=(("created_at", False), ("uuid", True)), **fields)
            found = await listing_store.read_page(connection, query)
            assert "".join(server.id for server in found) == ids, fields


@pytest.mark.parametrize("descending", [True, False])
async def test_every_order_is_total_and_has_a_place_for_every_marker(database: Database, descending: bool) -> None:
    await _servers(database)
    async with database.read() as connection:
        for name in listing_store.SORTS:
            query = ServerQuery(sort=((name, descending),), interfaces=False)
            whole = [server.id for server in await listing_store.read_page(connection, query)]
            assert sorted(whole) == ["a", "b", "c", "d"]
            seen: list[str] = []
            while len(seen) < 5:
                marker = seen[-1] if seen else None
                query = ServerQuery(sort=((name, descending),), limit=1, marker=marker, interfaces=False)
                page = await listing_store.read_page(connection, query)
                if not page:
                    break
                seen.append(page[0].id)
            assert seen == whole, name
        with pytest.raises(NotFound):
            await listing_store.read_page(connection, ServerQuery(marker="z"))
        with pytest.raises(NotFound):
            await listing_store.read_page(connection, ServerQuery(marker="a", project_id="nobody"))


async def test_actions_in_pages(database: Database) -> None:
    async with database.write() as connection:
        await add_server(connection, "a")
        actions = [
            InstanceAction(
                server_id="a",
                action="stop",
                request_id=f"r{number}",
                user_id="u",
                project_id="p",
                started_at=float(number),
                updated_at=float(number),
            )
            for number in range(4)
        ]
        await insert_actions(connection, actions)
        for query, ids in (
            (ActionQuery(), ["r3", "r2", "r1", "r0"]),
            (ActionQuery(limit=2), ["r3", "r2"]),
            (ActionQuery(marker="r2", limit=1), ["r1"]),
            (ActionQuery(changes_since=2.0), ["r3", "r2"]),
            (ActionQuery(changes_before=1.0), ["r1", "r0"]),
            (ActionQuery(request_id="r1"), ["r1"]),
        ):
            assert [one.request_id for one in await read_actions(connection, "a", query)] == ids
        with pytest.raises(NotFound):
            await read_actions(connection, "a", ActionQuery(marker="r9"))


async def test_a_server_is_locked_while_it_is_changed(database: Database) -> None:
    """Two transactions that read and write one server go one after the other."""
    async with database.write() as connection:
        await add_hosts(connection, "h1")
        await add_server(connection, "a", host_id="h1", name="0")

    async def count() -> None:
        async with database.write() as connection:
            server = (await store.read_by_ids(connection, ["a"], lock=True))["a"]
            await asyncio.sleep(0.01)
            await store.write(connection, [_renamed(server, str(int(server.name) + 1))])

    await asyncio.gather(*(count() for _ in range(5)))
    async with database.read() as connection:
        assert (await store.read_by_ids(connection, ["a"]))["a"].name == "5"


def _renamed(server: Any, name: str) -> Any:

    return replace(server, name=name)


async def _network(cloud: Any, cidr: str = "10.0.0.0/24") -> str:
    [network] = await cloud.networks.create(MEMBER, [NewNetwork(id=new_uuid(), project_id="p1", name="n")])
    draft = NewSubnet(id=new_uuid(), project_id="p1", network_id=network.id, ip_version=4, cidr=cidr, enable_dhcp=False)
    await cloud.subnets.create(MEMBER, [draft])
    return str(network.id)


async def test_what_a_batch_of_requests_names(database: Database, tmp_path: Any) -> None:
    async with network_cloud(database, tmp_path) as cloud:
        network_id = await _network(cloud)
        port = await cloud.ports.create(
            ADMIN, NewPort(id=new_uuid(), project_id="p1", network_id=network_id, device_id="x")
        )
        address = port.fixed_ips[0].ip_address
        key = Keypair(user_id="u", name="k", type="ssh", public_key="pk", fingerprint="f", created_at=0.0)
        async with database.write() as connection:
            await add_hosts(connection, "h1")
            await key_store.insert_all(connection, [key])
        context = Context(user_id="u", project_id="p1", roles=frozenset({"member"}))
        asked = [
            Named(context=context, nics=(NicAsked(port_id=port.id),), key_name="k"),
            Named(context=context, nics=(NicAsked(network_id=network_id, fixed_ip=address),), groups=("default", "no")),
            Named(context=context, any_network=True, zone="nova", hostname="h1"),
        ]
        async with database.read() as connection:
            picture = await lookup_store.read_picture(connection, asked)
            assert await lookup_store.read_picture(connection, []) is not None
        assert picture.networks[network_id].has_subnets
        assert picture.ports[port.id].has_address
        assert picture.holders == {(network_id, address): "x"}
        assert [name for _, name in picture.groups["p1"]] == ["default"]
        assert picture.keys == {("u", "k"): "pk"}
        assert (picture.zones, picture.hostnames) == ({"nova"}, {"h1"})
        assert [network.id for network in picture.usable] == [network_id]


async def test_interfaces_come_and_go_in_batches(database: Database, tmp_path: Any) -> None:
    async with network_cloud(database, tmp_path) as cloud:
        network_id = await _network(cloud)
        mine = (await cloud.ports.create(ADMIN, NewPort(id=new_uuid(), project_id="p1", network_id=network_id))).id
        async with database.write() as connection:
            await add_hosts(connection, "h1")
            for server_id in ("a", "b"):
                await add_server(connection, server_id, host_id="h1", project_id="p1")
        servers = Servers(database)
        interfaces = ServerInterfaces(database, cloud.ports._batch, servers)

        def attach(server_id: str, **nic: Any) -> Attach:
            return Attach(context=MEMBER, server_id=server_id, nic=NicAsked(**nic), tag="t", request_id="r")

        wanted = [attach(server_id, network_id=network_id) for server_id in "abab"]
        wanted += [attach(server_id, port_id=mine) for server_id in "ab"]
        outcomes = await asyncio.gather(*(interfaces.attach(one) for one in wanted), return_exceptions=True)
        [conflict] = [one for one in outcomes if isinstance(one, BaseException)]
        assert isinstance(conflict, Conflict)
        found = {server_id: await servers.get(MEMBER, server_id) for server_id in "ab"}
        assert len([i for server in found.values() for i in server.interfaces]) == 5
        assert all(set(server.interface_tags) == {i.port_id for i in server.interfaces} for server in found.values())
        leaving = [
            Detach(context=MEMBER, server_id=server.id, port_id=interface.port_id, request_id="r")
            for server in found.values()
            for interface in server.interfaces
        ]
        await asyncio.gather(*(interfaces.detach(one) for one in leaving))
        found = {server_id: await servers.get(MEMBER, server_id) for server_id in "ab"}
        assert all(
            not (server.interfaces or server.interface_tags or server.kept_port_ids) for server in found.values()
        )
        assert (await cloud.ports.get(MEMBER, mine)).device_id == ""
