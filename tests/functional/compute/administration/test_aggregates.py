"""Aggregates of hosts, and the zones that they move their hosts to."""

import asyncio
from collections import Counter

PATH = "/os-aggregates"


def body(name: str = "a", **fields: object) -> dict:
    return {"aggregate": {"name": name, **fields}}


async def made(admin, name: str = "a", **fields: object) -> str:
    return f"{PATH}/{(await admin.post(PATH, body(name, **fields)))['aggregate']['id']}"


async def act(admin, path: str, status: int = 200, **action: object):
    answer = await admin.post(f"{path}/action", action, status=status)
    return answer["aggregate"] if status == 200 else answer


async def zones(admin) -> dict[str, list[str]]:
    found = (await admin.get("/os-availability-zone/detail"))["availabilityZoneInfo"]
    return {zone["zoneName"]: sorted(zone["hosts"]) for zone in found}


async def test_an_aggregate_from_its_making_to_its_end(admin):
    first = (await admin.post(PATH, body("rack 1", availability_zone="east"), v="2.41"))["aggregate"]
    always = {"id", "name", "availability_zone", "created_at", "updated_at", "deleted", "deleted_at"}
    assert set(first) == always | {"uuid"}
    path = f"{PATH}/{first['id']}"
    shown = (await admin.get(path))["aggregate"]
    assert (shown["hosts"], shown["metadata"], shown["availability_zone"]) == (
        [],
        {"availability_zone": "east"},
        "east",
    )
    assert "uuid" not in shown
    changed = await act(admin, path, set_metadata={"metadata": {"ssd": "true", "old": "x"}})
    assert changed["metadata"] == {"ssd": "true", "old": "x", "availability_zone": "east"}
    changed = await act(admin, path, set_metadata={"metadata": {"old": None}})
    assert changed["metadata"] == {"ssd": "true", "availability_zone": "east"}
    assert (await admin.put(path, body("rack 2")))["aggregate"]["name"] == "rack 2"
    assert [one["name"] for one in (await admin.get(PATH))["aggregates"]] == ["rack 2"]
    await admin.delete(path, status=200)
    number = first["id"]
    assert await admin.refusal("GET", path) == (404, "itemNotFound", f"Aggregate {number} could not be found.")
    assert (await admin.refusal("DELETE", path))[0] == 404


async def test_its_zone_is_its_hosts_zone(bed, admin, member):
    path = await made(admin, availability_zone="east")
    changed = await act(admin, path, add_host={"host": "sim-0001"})
    assert changed["hosts"] == ["sim-0001"]
    assert await zones(admin) == {"nova": ["sim-0000"], "east": ["sim-0001"]}
    server = await member.post("/servers", await bed.server_body(availability_zone="east"), status=202)
    shown = await bed.settled(admin, server["server"]["id"])
    assert (shown["OS-EXT-SRV-ATTR:host"], shown["OS-EXT-AZ:availability_zone"]) == ("sim-0001", "east")
    # While the host holds servers it stays in its zone.
    for action in (
        {"remove_host": {"host": "sim-0001"}},
        {"set_metadata": {"metadata": {"availability_zone": "west"}}},
    ):
        assert (await admin.refusal("POST", f"{path}/action", action))[:2] == (409, "conflictingRequest")
    assert (await admin.refusal("PUT", path, {"aggregate": {"availability_zone": None}}))[0] == 409
    assert await zones(admin) == {"nova": ["sim-0000"], "east": ["sim-0001"]}
    await bed.gone(member, shown["id"])
    await act(admin, path, set_metadata={"metadata": {"availability_zone": "west"}})
    assert await zones(admin) == {"nova": ["sim-0000"], "west": ["sim-0001"]}
    await admin.put(path, {"aggregate": {"availability_zone": "south"}})
    assert await zones(admin) == {"nova": ["sim-0000"], "south": ["sim-0001"]}
    assert (await admin.refusal("DELETE", path))[0] == 400
    await act(admin, path, remove_host={"host": "sim-0001"})
    assert await zones(admin) == {"nova": ["sim-0000", "sim-0001"]}
    await admin.delete(path, status=200)


async def test_a_host_is_in_one_zone_but_in_many_aggregates(admin):
    east, west, plain = await made(admin, "e", availability_zone="east"), await made(admin, "w"), await made(admin, "p")
    await act(admin, east, add_host={"host": "sim-0000"})
    await act(admin, plain, add_host={"host": "sim-0000"})
    await act(admin, west, set_metadata={"metadata": {"availability_zone": "west"}})
    add = {"add_host": {"host": "sim-0000"}}
    assert (await admin.refusal("POST", f"{west}/action", add))[:2] == (409, "conflictingRequest")
    assert (await admin.refusal("PUT", plain, {"aggregate": {"availability_zone": "west"}}))[0] == 409
    await admin.put(plain, {"aggregate": {"availability_zone": "east"}})
    await act(admin, east, remove_host={"host": "sim-0000"})
    assert await zones(admin) == {"nova": ["sim-0001"], "east": ["sim-0000"]}
    assert (await admin.refusal("POST", f"{plain}/action", add))[:2] == (409, "conflictingRequest")


async def test_what_is_no_aggregate_is_refused(admin, member):
    path = await made(admin)
    for wrong in ({}, {"aggregate": {}}, body(""), body("a\x00"), body("x" * 256), body(5), body(more=1)):
        assert (await admin.refusal("POST", PATH, wrong))[:2] == (400, "badRequest"), wrong
    for zone in ("", "a:b", 5, "x" * 256):
        assert (await admin.refusal("POST", PATH, body("b", availability_zone=zone)))[0] == 400
    for wrong in ({}, {"aggregate": {}}, {"aggregate": {"name": None}}, {"aggregate": {"hosts": []}}):
        assert (await admin.refusal("PUT", path, wrong))[0] == 400, wrong
    add = {"add_host": {"host": "sim-0000"}}
    for wrong in (
        {},
        {"explode": {}},
        {**add, "remove_host": {"host": "sim-0000"}},
        {"add_host": {}},
        {"add_host": None},
        {"add_host": {"host": ""}},
        {"set_metadata": {}},
        {"set_metadata": {"metadata": {"": "x"}}},
        {"set_metadata": {"metadata": {"k": "x" * 256}}},
        {"set_metadata": {"metadata": {"k": 5}}},
        {"set_metadata": {"metadata": {"availability_zone": "a:b"}}},
    ):
        assert (await admin.refusal("POST", f"{path}/action", wrong))[0] == 400, wrong
    for action in (
        {"add_host": {"host": "none"}},
        {"remove_host": {"host": "none"}},
        {"remove_host": {"host": "sim-0000"}},
    ):
        assert (await admin.refusal("POST", f"{path}/action", action))[:2] == (404, "itemNotFound"), action
    for missing in ("0", "99", "x", "9" * 30):
        for method, rest in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/action")):
            asked = add if rest else {"aggregate": {"name": "z"}}
            assert (await admin.refusal(method, f"{PATH}/{missing}{rest}", asked))[0] == 404, (method, missing)
    for method, one in (("GET", PATH), ("POST", PATH), ("GET", path), ("DELETE", path), ("POST", f"{path}/action")):
        assert (await member.refusal(method, one, body()))[0] == 403
    assert (await admin.get(path))["aggregate"]["hosts"] == []


async def test_names_are_taken_once_also_by_concurrent_requests(admin):
    answers = await asyncio.gather(*(admin.call("POST", PATH, body("same")) for _ in range(5)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 4}
    other = await made(admin, "other")
    assert await admin.refusal("PUT", other, body("same")) == (
        409,
        "conflictingRequest",
        "Aggregate same already exists.",
    )
