"""Server groups as each microversion shows them, and what their policies do to servers."""

import asyncio
from collections import Counter

import pytest

from muster.base.ids import new_uuid


def old(name: str = "g", policy: str = "affinity", **fields: object) -> dict:
    return {"server_group": {"name": name, "policies": [policy], **fields}}


def new(name: str = "g", policy: str = "affinity", **fields: object) -> dict:
    return {"server_group": {"name": name, "policy": policy, **fields}}


async def group(client, policy: str, **fields: object) -> str:
    made = await client.post("/os-server-groups", new(policy=policy, **fields), v="2.64")
    return made["server_group"]["id"]


async def servers_in(bed, client, group_id: str, count: int) -> list[dict]:
    """Servers made at once, each by a request of its own, once they are settled."""
    bodies = [await bed.server_body(f"vm{index}", hints={"group": group_id}) for index in range(count)]
    made = await asyncio.gather(*(client.post("/servers", body, status=202) for body in bodies))
    return [await bed.settled(client, one["server"]["id"]) for one in made]


async def test_fields_by_microversion(member):
    made = (await member.post("/os-server-groups", old("a b", "anti-affinity")))["server_group"]
    group_id = made["id"]
    assert made == {"id": group_id, "name": "a b", "policies": ["anti-affinity"], "members": [], "metadata": {}}
    shown = (await member.get(f"/os-server-groups/{group_id}", v="2.13"))["server_group"]
    assert shown == {**made, "project_id": "a" * 32, "user_id": "alice"}
    newest = (await member.get(f"/os-server-groups/{group_id}", v="2.64"))["server_group"]
    assert newest == {
        "id": group_id,
        "name": "a b",
        "policy": "anti-affinity",
        "rules": {},
        "members": [],
        "project_id": "a" * 32,
        "user_id": "alice",
    }
    body = new("r", "anti-affinity", rules={"max_server_per_host": "3"})
    ruled = (await member.post("/os-server-groups", body, v="2.64"))["server_group"]
    assert ruled["rules"] == {"max_server_per_host": 3}
    assert [one["name"] for one in (await member.get("/os-server-groups"))["server_groups"]] == ["a b", "r"]
    await member.delete(f"/os-server-groups/{group_id}", status=204)
    refusal = await member.refusal("GET", f"/os-server-groups/{group_id}")
    assert refusal == (404, "itemNotFound", f"Instance group {group_id} could not be found.")
    await member.delete(f"/os-server-groups/{group_id}", status=404)


async def test_groups_are_their_projects_own(admin, member, reader, other):
    group_id = await group(member, "affinity")
    await reader.get(f"/os-server-groups/{group_id}")
    await reader.delete(f"/os-server-groups/{group_id}", status=403)
    await reader.post("/os-server-groups", old(), status=403)
    await other.get(f"/os-server-groups/{group_id}", status=404)
    await other.delete(f"/os-server-groups/{group_id}", status=404)
    assert (await other.get("/os-server-groups"))["server_groups"] == []
    await other.get("/os-server-groups?all_projects=True", status=403)
    assert (await admin.get("/os-server-groups"))["server_groups"] == []
    assert len((await admin.get("/os-server-groups?all_projects=True"))["server_groups"]) == 1


async def test_pages(member):
    for name in "abc":
        await member.post("/os-server-groups", old(name))
    found = (await member.get("/os-server-groups?limit=1&offset=1"))["server_groups"]
    assert [one["name"] for one in found] == ["b"]
    assert len((await member.get("/os-server-groups?offset=1"))["server_groups"]) == 2
    for query in ("limit=-1", "limit=x", "offset=-1", "offset=y", "marker=none"):
        await member.get(f"/os-server-groups?{query}", status=400)


async def test_a_marker_wins_over_an_offset(member, other, admin):
    for name in "abc":
        await member.post("/os-server-groups", old(name))
    [first] = (await member.get("/os-server-groups?limit=1"))["server_groups"]
    rest = f"/os-server-groups?limit=5&offset=2&marker={first['id']}"
    assert [one["name"] for one in (await member.get(rest))["server_groups"]] == ["b", "c"]
    assert len((await admin.get(f"{rest}&all_projects=1"))["server_groups"]) == 2
    await other.get(rest, status=400)


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_no_group_is_refused(shared_bed):
    member = shared_bed.client("member@p/u")
    wrong_old = [
        {},
        {"server_group": {}},
        {"server_group": {"name": "g"}},
        {"server_group": {"name": "g", "policies": []}},
        {"server_group": {"name": "g", "policies": ["affinity", "anti-affinity"]}},
        {"server_group": {"name": "g", "policies": "affinity"}},
        old(policy="soft-affinity"),
        old(policy="whatever"),
        old(name=""),
        old(name=" g"),
        old(name="x" * 256),
        old(name="a\nb"),
        old(name=3),
        old(more=1),
        new(),
    ]
    for body in wrong_old:
        assert (await member.refusal("POST", "/os-server-groups", body, v="2.14"))[:2] == (400, "badRequest"), body
    await member.post("/os-server-groups", old(policy="soft-affinity"), v="2.15")
    wrong_new = [
        old(),
        new(policy="legacy"),
        new(rules={"max_server_per_host": 2}),
        new(policy="anti-affinity", rules={"max_server_per_host": 0}),
        new(policy="anti-affinity", rules={"max_server_per_host": "x"}),
        new(policy="anti-affinity", rules={"max_server_per_host": 2**40}),
        new(policy="anti-affinity", rules={"other": 2}),
        new(policy="anti-affinity", rules=[]),
    ]
    for body in wrong_new:
        assert (await member.refusal("POST", "/os-server-groups", body, v="2.64"))[:2] == (400, "badRequest"), body
    assert len((await member.get("/os-server-groups"))["server_groups"]) == 1


async def test_the_quota_of_groups_is_kept(bed, member):
    async with bed.database.write() as connection:
        await bed.quotas.set_limits(connection, "a" * 32, {"server_groups": 2})
    answers = await asyncio.gather(*(member.call("POST", "/os-server-groups", old(f"g{i}")) for i in range(5)))
    assert Counter(answer.status_code for answer in answers) == {200: 2, 403: 3}
    refused = next(answer for answer in answers if answer.status_code == 403).json()
    assert refused == {"forbidden": {"code": 403, "message": "Quota exceeded, too many server groups."}}
    [first, _] = (await member.get("/os-server-groups"))["server_groups"]
    await member.delete(f"/os-server-groups/{first['id']}", status=204)
    await member.post("/os-server-groups", old())


async def test_anti_affinity_puts_each_on_a_host_of_its_own_and_what_is_too_many_in_error(bed, admin):
    group_id = await group(admin, "anti-affinity")
    found = await servers_in(bed, admin, group_id, 3)  # there are two hosts
    assert sorted(one["status"] for one in found) == ["ACTIVE", "ACTIVE", "ERROR"]
    assert len({one["OS-EXT-SRV-ATTR:host"] for one in found if one["status"] == "ACTIVE"}) == 2
    [failed] = [one for one in found if one["status"] == "ERROR"]
    words = "No valid host was found. No host has room that the policy anti-affinity of its server group allows."
    assert failed["fault"]["message"] == words
    assert {one["id"] for one in found} == set(
        (await admin.get(f"/os-server-groups/{group_id}"))["server_group"]["members"]
    )
    assert found[0]["server_groups"] == [group_id]
    # What is gone makes room.
    [gone, _] = [one for one in found if one["status"] == "ACTIVE"]
    await bed.gone(admin, gone["id"])
    [again] = await servers_in(bed, admin, group_id, 1)
    assert again["OS-EXT-SRV-ATTR:host"] == gone["OS-EXT-SRV-ATTR:host"]


async def test_anti_affinity_holds_within_one_request_and_allows_as_many_as_its_rule(bed, admin):
    group_id = await group(admin, "anti-affinity", rules={"max_server_per_host": 2})
    body = await bed.server_body(hints={"group": group_id}, min_count=5, max_count=5)
    await admin.post("/servers", body, status=202)
    ids = (await admin.get(f"/os-server-groups/{group_id}"))["server_group"]["members"]
    found = [await bed.settled(admin, server_id) for server_id in ids]
    hosts = Counter(one["OS-EXT-SRV-ATTR:host"] for one in found if one["status"] == "ACTIVE")
    assert sorted(hosts.values()) == [2, 2]
    assert len(found) == 5


async def test_affinity_puts_all_on_one_host_across_requests(bed, admin):
    group_id = await group(admin, "affinity")
    found = await servers_in(bed, admin, group_id, 4)
    found += await servers_in(bed, admin, group_id, 2)
    assert {one["status"] for one in found} == {"ACTIVE"}
    assert len({one["OS-EXT-SRV-ATTR:host"] for one in found}) == 1


async def test_soft_policies_are_kept_as_far_as_possible(bed, admin):
    spread = await servers_in(bed, admin, await group(admin, "soft-anti-affinity"), 4)
    assert sorted(Counter(one["OS-EXT-SRV-ATTR:host"] for one in spread).values()) == [2, 2]
    packed = await servers_in(bed, admin, await group(admin, "soft-affinity"), 3)
    assert len({one["OS-EXT-SRV-ATTR:host"] for one in packed}) == 1


async def test_a_group_has_as_many_servers_as_the_quota_allows(bed, member):
    async with bed.database.write() as connection:
        await bed.quotas.set_limits(connection, "a" * 32, {"server_group_members": 3})
    group_id = await group(member, "affinity")
    body = await bed.server_body(hints={"group": group_id})
    answers = await asyncio.gather(*(member.call("POST", "/servers", body) for _ in range(5)))
    assert Counter(answer.status_code for answer in answers) == {202: 3, 403: 2}
    refused = next(answer for answer in answers if answer.status_code == 403).json()
    assert refused["forbidden"]["message"] == "Quota exceeded, too many servers in group"
    assert await bed.usage("a" * 32, "instances") == 3


async def test_hints(bed, member, other):
    theirs = await group(other, "affinity")
    for hints in (
        {"group": new_uuid()},
        {"group": theirs},
        {"group": "a-name"},
        {"group": 5},
        {"same_host": "x"},
        {"different_host": [new_uuid(), "x"]},
        [],
        "group",
    ):
        body = await bed.server_body(hints=hints)
        assert (await member.refusal("POST", "/servers", body))[:2] == (400, "badRequest"), hints
    ignored = {"same_host": new_uuid(), "query": "[]", "anything": "else"}
    await member.post("/servers", await bed.server_body(hints=ignored), status=202)


async def test_servers_outlive_their_group(bed, member):
    group_id = await group(member, "affinity")
    [server] = await servers_in(bed, member, group_id, 1)
    await member.delete(f"/os-server-groups/{group_id}", status=204)
    assert (await member.get(f"/servers/{server['id']}", v="2.71"))["server"]["server_groups"] == []
