"""Statements on networks."""

import pytest

from muster.domain.network_listing import Condition, ListQuery, Sort, TagFilter
from muster.domain.networks import Network
from muster.store import networks as store
from muster.store import tags as tag_store
from muster.store.engine import Violation
from muster.store.network_listing import MarkerNotFound


def network(name: str, **fields: object) -> Network:
    given = {
        "id": f"id-{name}",
        "project_id": "p1",
        "name": name,
        "description": "",
        "admin_state_up": True,
        "shared": False,
        "router_external": False,
        "is_default": False,
        "port_security_enabled": True,
        "mtu": 1450,
        "network_type": "vxlan",
        "physical_network": None,
        "segment_id": sum(name.encode()),
        "dns_domain": "",
        "availability_zone_hints": ("nova",),
        "revision": 1,
        "created_at": 1.5,
        "updated_at": 1.5,
        **fields,
    }
    return Network(**given)


async def test_what_is_written_is_read(database):
    one = network("a")
    async with database.write() as connection:
        await store.insert_all(connection, [one, network("b")])
        assert await store.read(connection, ["id-a", "missing"]) == {"id-a": one}
        assert await store.taken_segments(connection, [one.segment_id, 77]) == {one.segment_id}


async def test_a_segment_is_given_once(database):
    with pytest.raises(Violation) as caught:
        async with database.write() as connection:
            await store.insert_all(connection, [network("a", segment_id=5), network("b", segment_id=5)])
    assert caught.value.constraint == store.SEGMENT_TAKEN


async def test_pages_go_through_all_in_order_and_back(database):
    made = [network(name, mtu=mtu, physical_network=phys) for name, mtu, phys in _MIXED]
    async with database.write() as connection:
        await store.insert_all(connection, made)
    for sorts in _ORDERS:
        async with database.read() as connection:
            whole = await store.read_page(connection, ListQuery(sorts=sorts), None)
            assert len(whole) == len(made)
            seen: list[Network] = []
            marker = None
            while page := await store.read_page(connection, ListQuery(sorts=sorts, limit=2, marker=marker), None):
                seen += page
                marker = page[-1].id
            assert seen == whole
            back = ListQuery(sorts=sorts, limit=3, marker=whole[4].id, reverse=True)
            assert await store.read_page(connection, back, None) == whole[1:4]


_MIXED = [("a", 1, None), ("b", 2, "x"), ("c", 1, "x"), ("d", 2, None), ("e", 1, "y"), ("f", 3, None), ("g", 3, "y")]
_ORDERS = [
    (),
    (Sort("name"),),
    (Sort("mtu", descending=True), Sort("name")),
    (Sort("physical_network"), Sort("mtu")),
    (Sort("physical_network", descending=True),),
]


async def test_an_unknown_marker_is_told(database):
    async with database.read() as connection:
        with pytest.raises(MarkerNotFound):
            await store.read_page(connection, ListQuery(marker="nothing"), None)


async def test_a_project_sees_its_own_shared_and_external_ones(database):
    made = [
        network("own"),
        network("foreign", project_id="p2"),
        network("shared", project_id="p2", shared=True),
        network("external", project_id="p2", router_external=True),
    ]
    async with database.write() as connection:
        await store.insert_all(connection, made)
        seen = {one.name for one in await store.read_page(connection, ListQuery(), "p1")}
        assert seen == {"own", "shared", "external"}
        mine = ListQuery(conditions=(Condition("shared", (True,)), Condition("name", ("own", "shared"))))
        assert [one.name for one in await store.read_page(connection, mine, "p1")] == ["shared"]


async def test_tags_choose(database):
    tagged = {"a": {"red", "blue"}, "b": {"red"}, "c": set(), "d": {"green"}}
    async with database.write() as connection:
        await store.insert_all(connection, [network(name) for name in tagged])
        for name, tags in tagged.items():
            await tag_store.add(connection, f"id-{name}", tags)
        for wanted, names in (
            (TagFilter(all_of=("red", "blue")), "a"),
            (TagFilter(any_of=("red", "green")), "abd"),
            (TagFilter(not_all_of=("red", "blue")), "bcd"),
            (TagFilter(not_any_of=("red", "green")), "c"),
        ):
            found = await store.read_page(connection, ListQuery(tags=wanted, sorts=(Sort("name"),)), None)
            assert "".join(one.name for one in found) == names
        assert (await store.read(connection, ["id-a"]))["id-a"].tags == ("blue", "red")
        assert await store.remove(connection, "id-a")
        assert await tag_store.read(connection, ["id-a"]) == {}


async def test_changes_raise_the_revision(database):
    async with database.write() as connection:
        await store.insert_all(connection, [network("a", is_default=True), network("b", is_default=True)])
        await store.change(connection, "id-a", {"name": "z", "mtu": 1400}, 9.0)
        await store.touch(connection, ["id-a", "id-b"], 10.0)
        await store.unset_default(connection, "id-a")
        found = await store.read(connection, ["id-a", "id-b"])
    assert (found["id-a"].name, found["id-a"].revision, found["id-a"].updated_at) == ("z", 3, 10.0)
    assert [found["id-a"].is_default, found["id-b"].is_default] == [True, False]
