"""Flavors: made, listed, described, given to projects and deleted, as each microversion has it."""

import asyncio
import re
from collections import Counter

import pytest
from sqlalchemy import event

from muster.base.ids import is_uuid

P1, P2 = "a" * 32, "b" * 32


def body(name: str = "f", **fields: object) -> dict:
    return {"flavor": {"name": name, "ram": 64, "vcpus": 1, "disk": 2, **fields}}


async def made(admin, name: str = "f", **fields: object) -> dict:
    return (await admin.post("/flavors", body(name, **fields)))["flavor"]


def ids(answer: dict) -> list[str]:
    return [one["id"] for one in answer["flavors"]]


async def test_a_flavor_by_microversion(admin):
    fields = {"id": 7, "OS-FLV-EXT-DATA:ephemeral": "3", "swap": 512, "rxtx_factor": "2.5"}
    flavor = await made(admin, "mine", **fields, ram="128")
    assert flavor == {
        "id": "7",
        "name": "mine",
        "ram": 128,
        "vcpus": 1,
        "disk": 2,
        "swap": 512,
        "OS-FLV-EXT-DATA:ephemeral": 3,
        "OS-FLV-DISABLED:disabled": False,
        "os-flavor-access:is_public": True,
        "rxtx_factor": 2.5,
        "links": [
            {"rel": "self", "href": "http://cloud/v2.1/flavors/7"},
            {"rel": "bookmark", "href": "http://cloud/flavors/7"},
        ],
    }
    assert (await admin.get("/flavors/7"))["flavor"] == flavor
    newer = (await admin.get("/flavors/7", v="2.55"))["flavor"]
    assert newer == {**flavor, "description": None}
    assert (await admin.get("/flavors/7", v="2.61"))["flavor"] == {**newer, "extra_specs": {}}
    assert (await admin.get("/flavors/1"))["flavor"]["swap"] == ""
    assert (await admin.get("/flavors/1", v="2.75"))["flavor"]["swap"] == 0
    assert set((await admin.get("/flavors"))["flavors"][0]) == {"id", "name", "links"}
    assert set((await admin.get("/flavors", v="2.55"))["flavors"][0]) == {"id", "name", "links", "description"}
    assert is_uuid((await made(admin, "auto"))["id"])
    assert is_uuid((await made(admin, "auto2", id=None))["id"])


async def test_a_description_may_change_from_2_55_on(admin):
    flavor = (await admin.post("/flavors", body(description="old"), v="2.55"))["flavor"]
    path = f"/flavors/{flavor['id']}"
    changed = await admin.put(path, {"flavor": {"description": "new"}}, v="2.55")
    assert changed["flavor"] == {**flavor, "description": "new"}
    await admin.put(path, {"flavor": {"description": None}}, v="2.90")
    assert (await admin.get(path, v="2.55"))["flavor"]["description"] is None
    assert (await admin.refusal("PUT", path, {"flavor": {"description": "x"}}, v="2.54")) == (
        404,
        "itemNotFound",
        "The resource could not be found.",
    )
    for wrong in ({}, {"flavor": {}}, {"flavor": {"description": 5}}, {"flavor": {"description": "x", "name": "y"}}):
        await admin.put(path, wrong, v="2.55", status=400)
    await admin.put(path, {"flavor": {"description": "x" * 65_536}}, v="2.55", status=400)
    await admin.put("/flavors/none", {"flavor": {"description": "x"}}, v="2.55", status=404)


async def test_names_and_ids_are_taken_once_also_by_concurrent_requests(admin):
    answers = await asyncio.gather(*(admin.call("POST", "/flavors", body("same")) for _ in range(5)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 4}
    assert await admin.refusal("POST", "/flavors", body("same")) == (
        409,
        "conflictingRequest",
        "Flavor with name same already exists.",
    )
    assert await admin.refusal("POST", "/flavors", body("other", id="1")) == (
        409,
        "conflictingRequest",
        "Flavor with ID 1 already exists.",
    )


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_no_flavor_is_refused(shared_bed):
    admin = shared_bed.client("admin@p/u")
    before = await admin.get("/flavors/detail?is_public=None")
    wrong = [
        {},
        {"flavor": {}},
        {"flavor": {"name": "f"}},
        body(""),
        body(" f"),
        body("x" * 256),
        body("a\x00"),
        body(name=1),
        body(ram=0),
        body(ram=-1),
        body(ram="x"),
        body(ram=2**31),
        body(ram=2**70),
        body(ram=1.5),
        body(ram=None),
        body(vcpus=0),
        body(disk=-1),
        body(swap=-1),
        body(**{"OS-FLV-EXT-DATA:ephemeral": -1}),
        body(rxtx_factor=0),
        body(rxtx_factor="nan"),
        body(rxtx_factor="inf"),
        body(rxtx_factor=1e39),
        body(**{"os-flavor-access:is_public": "perhaps"}),
        body(id="a/b"),
        body(id=" a"),
        body(id="x" * 256),
        body(id=[1]),
        body(description="too early"),
        body(unknown=1),
    ]
    for one in wrong:
        assert (await admin.refusal("POST", "/flavors", one))[:2] == (400, "badRequest"), one
    assert await admin.get("/flavors/detail?is_public=None") == before


async def test_lists_are_filtered_sorted_and_paged(admin, member):
    everything = ["1", "2", "3", "4", "5", "guest.tiny"]
    assert ids(await member.get("/flavors")) == everything
    assert ids(await member.get("/flavors/detail?minRam=4096")) == ["3", "4", "5"]
    assert ids(await member.get("/flavors?minDisk=40&minRam=8192")) == ["4", "5"]
    assert ids(await member.get("/flavors?sort_key=memory_mb&sort_dir=desc")) == ["5", "4", "3", "2", "1", "guest.tiny"]
    assert ids(await member.get("/flavors?sort_key=name"))[0] == "guest.tiny"
    page = await member.get("/flavors?limit=2&marker=2")
    assert ids(page) == ["3", "4"]
    assert page["flavors_links"] == [{"rel": "next", "href": "http://cloud/v2.1/flavors?limit=2&marker=4"}]
    assert ids(await member.get("/flavors?limit=0")) == everything
    for query in ("minRam=x", "minDisk=-1", "limit=-1", "limit=x", "marker=none", "sort_key=secret", "sort_dir=up"):
        await member.get(f"/flavors?{query}", status=400)
    await admin.get("/flavors?is_public=perhaps", status=400)


async def test_private_flavors_are_for_those_they_were_given_to(admin, member, other):
    secret = await made(admin, "secret", id="s", **{"os-flavor-access:is_public": False})
    assert secret["os-flavor-access:is_public"] is False
    for client in (member, other):
        assert await client.refusal("GET", "/flavors/s") == (404, "itemNotFound", "Flavor s could not be found.")
        await client.get("/flavors/s/os-extra_specs", status=404)
        assert "s" not in ids(await client.get("/flavors?is_public=None"))
    assert "s" not in ids(await admin.get("/flavors"))
    assert ids(await admin.get("/flavors?is_public=False")) == ["s"]
    assert "s" in ids(await admin.get("/flavors?is_public=None"))
    assert (await admin.get("/flavors/s/os-flavor-access"))["flavor_access"] == []
    add, remove = {"addTenantAccess": {"tenant": P1}}, {"removeTenantAccess": {"tenant": P1}}
    given = {"flavor_access": [{"flavor_id": "s", "tenant_id": P1}]}
    assert await admin.post("/flavors/s/action", add) == given
    assert await admin.get("/flavors/s/os-flavor-access") == given
    await member.get("/flavors/s")
    assert "s" in ids(await member.get("/flavors"))
    await other.get("/flavors/s", status=404)
    assert await admin.refusal("POST", "/flavors/s/action", add) == (
        409,
        "conflictingRequest",
        f"Flavor access already exists for flavor s and project {P1} combination.",
    )
    assert await admin.post("/flavors/s/action", remove) == {"flavor_access": []}
    await member.get("/flavors/s", status=404)
    assert await admin.refusal("POST", "/flavors/s/action", remove) == (
        404,
        "itemNotFound",
        f"Flavor access not found for s / {P1} combination.",
    )


async def test_bad_changes_of_access(admin):
    await made(admin, "secret", id="s", **{"os-flavor-access:is_public": False})
    add = {"addTenantAccess": {"tenant": P1}}
    wrong = [{}, {"addTenantAccess": None}, {"addTenantAccess": {}}, {"addTenantAccess": {"tenant": ""}}, {"other": {}}]
    wrong += [{"addTenantAccess": {"tenant": "f" * 32}}, {"addTenantAccess": {"tenant": "default"}}]
    wrong += [{**add, "removeTenantAccess": {"tenant": P1}}]
    for one in wrong:
        assert (await admin.refusal("POST", "/flavors/s/action", one))[:2] == (400, "badRequest"), one
    await admin.post("/flavors/none/action", add, status=404)
    await admin.get("/flavors/none/os-flavor-access", status=404)
    assert await admin.refusal("GET", "/flavors/1/os-flavor-access") == (
        404,
        "itemNotFound",
        "Access list not available for public flavors.",
    )
    assert await admin.refusal("POST", "/flavors/1/action", add, v="2.7") == (
        409,
        "conflictingRequest",
        "Can not add access to a public flavor.",
    )


async def test_extra_specs(admin, member):
    path = "/flavors/1/os-extra_specs"
    specs = {"hw:cpu_policy": "dedicated", "my:own.key-1": "x"}
    assert await admin.post(path, {"extra_specs": specs}) == {"extra_specs": specs}
    assert await member.get(path) == {"extra_specs": specs}
    assert await admin.put(f"{path}/my:own.key-1", {"my:own.key-1": "y"}) == {"my:own.key-1": "y"}
    assert await member.get(f"{path}/my:own.key-1") == {"my:own.key-1": "y"}
    assert (await member.get("/flavors/1", v="2.61"))["flavor"]["extra_specs"]["my:own.key-1"] == "y"
    await admin.delete(f"{path}/my:own.key-1", status=200)
    assert await member.get(path) == {"extra_specs": {"hw:cpu_policy": "dedicated"}}
    missing = (404, "itemNotFound", "Flavor 1 has no extra specs with key my:own.key-1.")
    assert await member.refusal("GET", f"{path}/my:own.key-1") == missing
    assert await admin.refusal("DELETE", f"{path}/my:own.key-1") == missing
    assert (await admin.refusal("PUT", f"{path}/a", {"b": "1"}))[::2] == (400, "Request body and URI mismatch")
    for one in ({}, {"extra_specs": []}, {"extra_specs": {"a b": "1"}}, {"extra_specs": {"a": 1}}, {"other": {}}):
        await admin.post(path, one, status=400)
    for one in ({"": "1"}, {"x" * 256: "1"}, {"a": "x" * 256}, {"a": "\x00"}, {"a": None}):
        await admin.post(path, {"extra_specs": one}, status=400)
    for one in ({}, {"a": "1", "b": "2"}, {"a": 1}, []):
        await admin.put(f"{path}/a", one, status=400)
    await admin.post("/flavors/none/os-extra_specs", {"extra_specs": {"a": "1"}}, status=404)
    await admin.get("/flavors/none/os-extra_specs", status=404)


async def test_known_extra_specs_are_checked_from_2_86_on(admin):
    path = "/flavors/1/os-extra_specs"
    for wrong in ({"hw:x": "1"}, {"hw:cpu_policy": "x"}, {"hw:cpu_sockets": "-1"}, {"quota:cpu_shares": "many"}):
        assert (await admin.refusal("POST", path, {"extra_specs": wrong}, v="2.86"))[2].startswith("Validation failed;")
        await admin.post(path, {"extra_specs": wrong}, v="2.85")
    known = {"resources:VCPU": "2", "trait:HW_CPU_X86_AVX": "required", "hw:mem_page_size": "2MB", "own:key": "x"}
    await admin.post(path, {"extra_specs": {**known, "hw_rng:allowed": "True", "plain": "x"}}, v="2.86")


async def test_concurrent_changes_of_extra_specs_lose_none(admin):
    bodies = [{"extra_specs": {f"k{index}": "v"}} for index in range(12)]
    await asyncio.gather(*(admin.post("/flavors/1/os-extra_specs", one) for one in bodies))
    assert len((await admin.get("/flavors/1/os-extra_specs"))["extra_specs"]) == 12


async def test_what_was_written_is_read_at_once_while_others_read(admin, member):
    async def reading() -> None:
        for _ in range(30):
            await member.get("/flavors")

    readers = [asyncio.create_task(reading()) for _ in range(5)]
    for index in range(5):
        flavor = await made(admin, f"f{index}")
        await member.get(f"/flavors/{flavor['id']}")
        await admin.delete(f"/flavors/{flavor['id']}")
        await member.get(f"/flavors/{flavor['id']}", status=404)
    await asyncio.gather(*readers)


async def test_a_deleted_flavor_serves_its_servers_on_but_no_new_ones(bed, admin, member):
    await made(admin, "once", id="once")
    server = await member.post("/servers", await bed.server_body(flavorRef="once"), status=202)
    server_id = server["server"]["id"]
    assert (await bed.settled(member, server_id))["status"] == "ACTIVE"
    await admin.delete("/flavors/once")
    assert await admin.refusal("DELETE", "/flavors/once") == (404, "itemNotFound", "Flavor once could not be found.")
    refusal = await member.refusal("POST", "/servers", await bed.server_body(flavorRef="once"))
    assert refusal == (400, "badRequest", "Flavor once could not be found.")
    await member.post(f"/servers/{server_id}/action", {"reboot": {"type": "HARD"}}, status=202)
    shown = (await member.get(f"/servers/{server_id}", v="2.47"))["server"]
    assert shown["flavor"]["original_name"] == "once"
    assert (await member.get(f"/servers/{server_id}"))["server"]["flavor"]["id"] == "once"


async def test_nobody_asks_who_may_use_what_all_may(bed, admin, member):
    """A server made alone pays for each query: none is about the members of a public flavor or image."""
    request = await bed.server_body(flavorRef="1")
    asked: list[str] = []

    def note(_connection, _cursor, statement, *_rest) -> None:
        asked.extend(re.findall(r"FROM (flavor_access|image_members)", statement))

    engine = bed.database._reader.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    await member.post("/servers", request, status=202)
    assert asked == []
    await made(admin, "ours", **{"os-flavor-access:is_public": False})
    await member.post("/servers", request, status=202)
    event.remove(engine, "before_cursor_execute", note)
    assert asked == ["flavor_access"]


async def test_only_admins_change_flavors(member):
    for method, path in (
        ("POST", "/flavors"),
        ("PUT", "/flavors/1"),
        ("DELETE", "/flavors/1"),
        ("GET", "/flavors/1/os-flavor-access"),
        ("POST", "/flavors/1/action"),
        ("POST", "/flavors/1/os-extra_specs"),
        ("PUT", "/flavors/1/os-extra_specs/a"),
        ("DELETE", "/flavors/1/os-extra_specs/a"),
    ):
        assert (await member.refusal(method, path, body(), v="2.90"))[:2] == (403, "forbidden"), (method, path)
