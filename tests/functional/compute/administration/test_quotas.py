"""Quotas and limits: set, shown by microversion, reset, and kept to."""

import pytest

P1, P2 = "a" * 32, "b" * 32
ALWAYS = {"instances", "cores", "ram", "metadata_items", "key_pairs", "server_groups", "server_group_members"}
NETWORK = {"fixed_ips", "floating_ips", "security_groups", "security_group_rules"}
INJECTED = {"injected_files", "injected_file_content_bytes", "injected_file_path_bytes"}


async def test_what_is_limited_by_microversion(member):
    for version, names in (
        ("2.1", ALWAYS | NETWORK | INJECTED),
        ("2.35", ALWAYS | NETWORK | INJECTED),
        ("2.36", ALWAYS | INJECTED),
        ("2.56", ALWAYS | INJECTED),
        ("2.57", ALWAYS),
        ("2.90", ALWAYS),
    ):
        for path in ("", "/detail", "/defaults"):
            quota = (await member.get(f"/os-quota-sets/{P1}{path}", v=version))["quota_set"]
            assert quota.pop("id") == P1
            assert set(quota) == names, (version, path)
    quota = (await member.get(f"/os-quota-sets/{P1}"))["quota_set"]
    assert (quota["instances"], quota["cores"], quota["ram"], quota["fixed_ips"]) == (10, 20, 51_200, -1)
    detail = (await member.get(f"/os-quota-sets/{P1}/detail"))["quota_set"]
    assert detail["instances"] == {"limit": 10, "in_use": 0, "reserved": 0}


async def test_limits_are_set_shown_and_reset(admin, member):
    path = f"/os-quota-sets/{P1}"
    changed = await admin.put(path, {"quota_set": {"instances": 3, "ram": "-1", "force": "True"}}, v="2.57")
    assert set(changed["quota_set"]) == ALWAYS
    assert (changed["quota_set"]["instances"], changed["quota_set"]["ram"]) == (3, -1)
    shown = (await member.get(path, v="2.57"))["quota_set"]
    assert shown == {"id": P1, **changed["quota_set"]}
    assert (await admin.get(f"{path}?user_id=alice"))["quota_set"]["instances"] == 3
    assert (await member.get(path + "/defaults"))["quota_set"]["instances"] == 10
    assert (await admin.get(f"/os-quota-sets/{P2}"))["quota_set"]["instances"] == 10
    await admin.delete(path, status=202)
    assert (await member.get(path))["quota_set"]["instances"] == 10
    old = (await admin.put(path, {"quota_set": {"fixed_ips": 7}}))["quota_set"]
    assert old["fixed_ips"] == 7


async def test_quotas_are_for_their_project_and_admins(admin, member, other, reader):
    assert await other.refusal("GET", f"/os-quota-sets/{P1}") == (
        403,
        "forbidden",
        "Policy doesn't allow os_compute_api:os-quota-sets:show to be performed.",
    )
    await other.get(f"/os-quota-sets/{P1}/detail", status=403)
    await reader.get(f"/os-quota-sets/{P1}")
    for method, path in (
        ("PUT", f"/os-quota-sets/{P1}"),
        ("DELETE", f"/os-quota-sets/{P1}"),
        ("GET", "/os-quota-class-sets/default"),
        ("PUT", "/os-quota-class-sets/default"),
    ):
        assert (await member.refusal(method, path, {"quota_set": {}}))[0] == 403
    nobody = "f" * 32
    for method, path in (("GET", ""), ("GET", "/detail"), ("PUT", "")):
        refusal = await admin.refusal(method, f"/os-quota-sets/{nobody}{path}", {"quota_set": {"instances": 1}})
        assert refusal == (400, "badRequest", f"Project ID {nobody} is not a valid project.")


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_no_limit_is_refused(shared_bed):
    admin = shared_bed.client("admin@p/u")
    path = f"/os-quota-sets/{P1}"
    wrong = [{}, {"quota_set": []}, {"quota_set": {}, "more": 1}]
    values = [-2, 2**31, 2**70, "x", "", "1.5", 1.5, None, True, [], "-", "9" * 30]
    wrong += [{"quota_set": {"instances": value}} for value in values]
    wrong += [{"quota_set": {"nonsense": 1}}, {"quota_set": {"force": "perhaps"}}, {"quota_set": {"force": 1}}]
    for one in wrong:
        assert (await admin.refusal("PUT", path, one))[:2] == (400, "badRequest"), one
    assert (await admin.refusal("PUT", path, {"quota_set": {"fixed_ips": 1}}, v="2.36"))[0] == 400
    assert (await admin.refusal("PUT", path, {"quota_set": {"injected_files": 1}}, v="2.57"))[0] == 400
    assert (await admin.refusal("GET", path + "?nonsense=1", v="2.75"))[0] == 400
    await admin.get(path + "?nonsense=1", v="2.74")
    assert (await admin.get(path))["quota_set"]["instances"] == 10


async def test_a_limit_below_what_is_used_needs_force_and_limits_are_kept(bed, admin, member):
    body = await bed.server_body(min_count=2)
    await member.post("/servers", body, status=202)
    path = f"/os-quota-sets/{P1}"
    detail = (await member.get(path + "/detail", v="2.57"))["quota_set"]
    assert {name: detail[name]["in_use"] for name in ("instances", "cores", "ram")} == {
        "instances": 2,
        "cores": 2,
        "ram": 256,
    }
    assert await admin.refusal("PUT", path, {"quota_set": {"instances": 1}}) == (
        400,
        "badRequest",
        "Quota limit 1 for instances must be greater than or equal to already used and reserved 2.",
    )
    await admin.put(path, {"quota_set": {"instances": 2}})
    refusal = await member.refusal("POST", "/servers", await bed.server_body())
    assert refusal[:2] == (403, "forbidden")
    assert refusal[2].startswith("Quota exceeded for instances: Requested 1, but already used 2 of 2 instances")
    await admin.put(path, {"quota_set": {"instances": 1, "force": True}})
    await admin.put(path, {"quota_set": {"instances": -1}})
    await member.post("/servers", await bed.server_body(), status=202)


async def test_the_default_class_is_everybodys_limits(admin, member):
    path = "/os-quota-class-sets/default"
    shown = (await admin.get(path))["quota_class_set"]
    assert (shown.pop("id"), set(shown)) == (
        "default",
        ALWAYS - {"server_groups", "server_group_members"} | NETWORK | INJECTED,
    )
    newer = (await admin.get(path, v="2.50"))["quota_class_set"]
    assert set(newer) == {"id"} | ALWAYS | INJECTED
    newest = (await admin.get(path, v="2.57"))["quota_class_set"]
    assert set(newest) == {"id"} | ALWAYS
    changed = (await admin.put(path, {"quota_class_set": {"instances": 4}}, v="2.57"))["quota_class_set"]
    assert changed == {**{name: newest[name] for name in ALWAYS}, "instances": 4}
    assert (await member.get(f"/os-quota-sets/{P1}"))["quota_set"]["instances"] == 4
    assert (await member.get(f"/os-quota-sets/{P1}/defaults"))["quota_set"]["instances"] == 4
    await admin.put(f"/os-quota-sets/{P1}", {"quota_set": {"instances": 6}})
    assert (await member.get(f"/os-quota-sets/{P1}"))["quota_set"]["instances"] == 6
    for wrong in ({}, {"quota_class_set": {"instances": -2}}, {"quota_class_set": {"force": True}}):
        await admin.put(path, wrong, status=400)
    await admin.get("/os-quota-class-sets/other", status=404)
    await admin.put("/os-quota-class-sets/other", {"quota_class_set": {"instances": 1}}, status=404)


async def test_limits_by_microversion(bed, admin, member, other):
    first = (await member.get("/limits"))["limits"]
    assert first["rate"] == []
    always = {
        "maxTotalInstances": 10,
        "maxTotalCores": 20,
        "maxTotalRAMSize": 51_200,
        "maxTotalKeypairs": 100,
        "maxServerMeta": 128,
        "maxServerGroups": 10,
        "maxServerGroupMembers": 10,
        "totalInstancesUsed": 0,
        "totalCoresUsed": 0,
        "totalRAMUsed": 0,
        "totalServerGroupsUsed": 0,
    }
    personality = {"maxPersonality": 5, "maxPersonalitySize": 10_240}
    network = {"maxTotalFloatingIps", "maxSecurityGroups", "maxSecurityGroupRules"}
    network |= {"totalFloatingIpsUsed", "totalSecurityGroupsUsed"}
    assert set(first["absolute"]) == set(always) | set(personality) | network | {"maxImageMeta"}
    expected = {**always, **personality, "maxImageMeta": 128}
    assert (await member.get("/limits", v="2.36"))["limits"]["absolute"] == expected
    assert (await member.get("/limits", v="2.39"))["limits"]["absolute"] == {**always, **personality}
    assert (await member.get("/limits", v="2.57"))["limits"]["absolute"] == always
    await member.post("/servers", await bed.server_body(), status=202)
    used = (await admin.get(f"/limits?tenant_id={P1}&reserved=1", v="2.57"))["limits"]["absolute"]
    assert (used["totalInstancesUsed"], used["totalRAMUsed"]) == (1, 128)
    assert (await other.get("/limits?reserved=False"))["limits"]["absolute"]["totalInstancesUsed"] == 0
    assert (await other.refusal("GET", f"/limits?tenant_id={P1}"))[:2] == (403, "forbidden")
    # Nova asks nobody whether it is a project.
    assert (await admin.get("/limits?tenant_id=none", v="2.57"))["limits"]["absolute"] == always
    await member.get("/limits?nonsense=1", v="2.75", status=400)
