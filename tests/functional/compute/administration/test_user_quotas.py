"""Limits of single users: set, shown, reset, kept to; the users are of one project."""

import pytest

from muster.domain.users import Login, User
from muster.store import users as store

P1, P2 = "a" * 32, "b" * 32
PATH = f"/os-quota-sets/{P1}"
ANN, BEN = f"{PATH}?user_id=ann", f"{PATH}?user_id=ben"
OF_ANN = f"{PATH}/detail?user_id=ann"


@pytest.fixture(autouse=True)
async def people(bed):
    async with bed.database.write() as connection:
        found = [Login(User(id=name, name=name, domain_id="default"), None) for name in ("ann", "ben")]
        await store.insert(connection, found)


@pytest.fixture
def ann(bed):
    return bed.client(f"member@{P1}/ann")


@pytest.fixture
def ben(bed):
    return bed.client(f"member@{P1}/ben")


async def test_a_users_limits_are_the_projects_until_they_are_set_and_after_they_are_reset(admin, ann, member):
    for version in ("2.1", "2.36", "2.57", "2.96"):
        whole = (await member.get(PATH, v=version))["quota_set"]
        assert (await ann.get(ANN, v=version))["quota_set"] == whole
        changed = (await admin.put(ANN, {"quota_set": {"instances": 4, "ram": "2048"}}, v=version))["quota_set"]
        mine = whole | {"instances": 4, "ram": 2_048}
        assert {"id": P1} | changed == mine
        assert (await ann.get(ANN, v=version))["quota_set"] == mine
        detail = (await ann.get(OF_ANN, v=version))["quota_set"]
        assert detail.pop("id") == P1
        assert detail == {
            name: {"limit": limit, "in_use": 0, "reserved": 0} for name, limit in mine.items() if name != "id"
        }
        assert (await member.get(BEN, v=version))["quota_set"] == whole
        assert (await member.get(PATH, v=version))["quota_set"] == whole
        assert (await member.get(f"{PATH}?user_id=", v=version))["quota_set"] == whole
        assert await admin.delete(ANN) is None
        assert (await ann.get(ANN, v=version))["quota_set"] == whole
    await admin.delete(ANN)
    await admin.delete(BEN)


async def test_a_project_that_is_reset_has_no_limits_of_users_any_more(admin, ann):
    await admin.put(ANN, {"quota_set": {"cores": 4}})
    await admin.put(PATH, {"quota_set": {"cores": 6}})
    await admin.delete(PATH)
    assert (await ann.get(ANN))["quota_set"]["cores"] == 20


async def test_a_users_limit_is_part_of_the_projects(admin, ann):
    await admin.put(ANN, {"quota_set": {"instances": 6}})

    async def said(path: str, limit: int) -> str:
        status, name, message = await admin.refusal("PUT", path, {"quota_set": {"instances": limit}})
        assert (status, name) == (400, "badRequest")
        return message

    beyond = "Quota limit {} for instances must be less than or equal to 4."
    assert await said(BEN, 5) == beyond.format(5)
    assert await said(BEN, -1) == beyond.format(-1)
    assert await said(PATH, 5) == (
        "Quota limit 5 for instances must be greater than or equal to already used and reserved 6."
    )
    await admin.put(BEN, {"quota_set": {"instances": 5, "force": True}})
    await admin.put(BEN, {"quota_set": {"instances": 4}})
    await admin.put(ANN, {"quota_set": {"instances": 3}})
    await admin.put(BEN, {"quota_set": {"instances": 7}})
    await admin.put(PATH, {"quota_set": {"instances": 5, "force": "yes"}})
    assert await said(ANN, 1) == "Quota limit 1 for instances must be less than or equal to 0."
    await admin.put(PATH, {"quota_set": {"instances": -1}})
    await admin.put(ANN, {"quota_set": {"instances": -1}})
    # What limits the project alone is set for all of it.
    await admin.put(ANN, {"quota_set": {"fixed_ips": 7, "security_groups": 3}})
    shown = (await admin.get(PATH))["quota_set"]
    assert (shown["fixed_ips"], shown["security_groups"]) == (7, -1)
    assert (await ann.get(ANN))["quota_set"]["security_groups"] == 3


async def test_who_may(admin, ann, other, reader):
    assert await other.refusal("GET", ANN) == (
        403,
        "forbidden",
        "Policy doesn't allow os_compute_api:os-quota-sets:show to be performed.",
    )
    assert (await other.refusal("GET", OF_ANN))[0] == 403
    await reader.get(ANN)
    await reader.get(OF_ANN)
    for method in ("PUT", "DELETE"):
        assert (await ann.refusal(method, ANN, {"quota_set": {"instances": 1}}))[0] == 403
    nobody = "f" * 32
    for method, path in (("GET", ""), ("GET", "/detail"), ("PUT", "")):
        body = {"quota_set": {"instances": 1}}
        refusal = await admin.refusal(method, f"/os-quota-sets/{nobody}{path}?user_id=ann", body)
        assert refusal == (400, "badRequest", f"Project ID {nobody} is not a valid project.")
    refusal = await admin.refusal("PUT", f"{PATH}?user_id=nobody", {"quota_set": {"instances": 1}})
    assert refusal == (400, "badRequest", "User ID nobody is not a valid user.")


async def test_what_is_no_limit_of_a_user_is_refused(admin, ann):
    wrong = [{}, {"quota_set": []}, {"quota_set": {"nonsense": 1}}]
    wrong += [{"quota_set": {"instances": value}} for value in (-2, 2**31, "x", None, True)]
    for one in wrong:
        assert (await admin.refusal("PUT", ANN, one))[:2] == (400, "badRequest"), one
    assert (await admin.refusal("PUT", ANN, {"quota_set": {"fixed_ips": 1}}, v="2.36"))[0] == 400
    assert (await admin.refusal("PUT", f"{PATH}?user_id={'x' * 65}", {"quota_set": {"cores": 1}}))[0] == 400
    assert (await admin.refusal("GET", f"{ANN}&nonsense=1", v="2.75"))[0] == 400
    await admin.put(ANN, {"quota_set": {}})
    assert (await ann.get(ANN))["quota_set"] == (await ann.get(PATH))["quota_set"]


async def test_servers_are_made_within_the_users_part(bed, admin, ann, ben, member):
    await ann.post("/servers", await bed.server_body(), status=202)
    await admin.put(ANN, {"quota_set": {"instances": 3, "cores": 3}})
    # From one to nine: two are left.
    body = await bed.server_body(min_count=1, max_count=9)
    reservation = (await ann.post("/servers", body, status=202))["server"]
    made = (await ann.get("/servers"))["servers"]
    assert len(made) == 3
    refusal = await ann.refusal("POST", "/servers", await bed.server_body())
    assert refusal == (403, "forbidden", "Quota exceeded for instances: Requested 1, but already used 3 of 3 instances")
    refusal = await ann.refusal("POST", "/servers", await bed.server_body(min_count=2, max_count=3))
    assert refusal[2].startswith("Quota exceeded for instances: Requested 2-3, but already used 3 of 3 instances")
    await ben.post("/servers", await bed.server_body(), status=202)
    detail = (await ann.get(OF_ANN, v="2.57"))["quota_set"]
    assert {name: detail[name]["in_use"] for name in ("instances", "cores", "ram")} == {
        "instances": 3,
        "cores": 3,
        "ram": 384,
    }
    # `limits` shows what the project has, as in Nova.
    limits = (await ann.get("/limits", v="2.57"))["limits"]["absolute"]
    assert (limits["maxTotalInstances"], limits["totalInstancesUsed"]) == (10, 4)
    assert await admin.refusal("PUT", ANN, {"quota_set": {"instances": 2}}) == (
        400,
        "badRequest",
        "Quota limit 2 for instances must be greater than or equal to already used and reserved 3.",
    )
    # Whoever deletes a server, it is its user's part that is free again.
    await bed.settled(member, reservation["id"])
    await bed.gone(ben, reservation["id"])
    await ann.post("/servers", await bed.server_body(), status=202)
    assert (await ann.refusal("POST", "/servers", await bed.server_body()))[0] == 403
    await admin.delete(ANN)
    await ann.post("/servers", await bed.server_body(), status=202)


async def test_keys_metadata_groups_and_their_members_are_limited_too(bed, admin, ann, ben):
    await admin.put(ANN, {"quota_set": {"key_pairs": 1, "metadata_items": 1, "server_groups": 1}}, v="2.57")
    await admin.put(ANN, {"quota_set": {"server_group_members": 1}}, v="2.57")
    for client, status in ((ann, 403), (ben, 200)):
        await client.post("/os-keypairs", {"keypair": {"name": "one"}})
        await client.post("/os-keypairs", {"keypair": {"name": "two"}}, status=status)
        group = {"server_group": {"name": "g", "policies": ["anti-affinity"]}}
        made = (await client.post("/os-server-groups", group))["server_group"]
        await client.post("/os-server-groups", group, status=status)
        items = {"a": "1", "b": "2"}
        await client.post("/servers", await bed.server_body(metadata=items), status=202 if status == 200 else status)
        body = await bed.server_body(hints={"group": made["id"]})
        server = (await client.post("/servers", body, status=202))["server"]
        await client.post("/servers", body, status=202 if status == 200 else status)
        await bed.settled(client, server["id"])
        await client.post(f"/servers/{server['id']}/metadata", {"metadata": items}, status=status)
        await client.delete(f"/os-server-groups/{made['id']}", status=204)
        await client.post("/os-server-groups", group)
