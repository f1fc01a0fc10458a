"""Networks: requests and answers."""


def error(response) -> str:
    return response.json()["NeutronError"]["type"]


async def test_a_members_network_from_creation_to_deletion(member):
    made = await member.network(name="n", description="d", mtu=1400)
    assert (made["name"], made["mtu"], made["status"], made["shared"], made["subnets"]) == (
        "n",
        1400,
        "ACTIVE",
        False,
        [],
    )
    assert made["tenant_id"] == made["project_id"] == "p1"
    assert "provider:network_type" not in made
    assert (await member.get("/v2.0/networks"))["networks"] == [made]
    path = f"/v2.0/networks/{made['id']}"
    changed = (await member.put(path, {"network": {"name": "m", "mtu": 0, "port_security_enabled": False}}))["network"]
    assert (changed["name"], changed["mtu"], changed["port_security_enabled"]) == ("m", 1450, False)
    assert changed["revision_number"] > made["revision_number"]
    await member.delete(path)
    await member.get(path, 404)


async def test_who_sees_and_changes_whose(member, other, admin):
    own = await member.network()
    shared = await admin.network(shared=True)
    external = await admin.network(**{"router:external": True})
    assert {one["id"] for one in (await other.get("/v2.0/networks"))["networks"]} == {shared["id"], external["id"]}
    await other.get(f"/v2.0/networks/{own['id']}", 404)
    await other.delete(f"/v2.0/networks/{own['id']}", 404)
    await other.delete(f"/v2.0/networks/{shared['id']}", 403)
    await other.put(f"/v2.0/networks/{shared['id']}", {"network": {"name": "x"}}, 403)
    assert len((await admin.get("/v2.0/networks?router:external=False&shared=false"))["networks"]) == 1
    assert len((await admin.get("/v2.0/networks?tenant_id=p1"))["networks"]) == 1


async def test_what_only_an_admin_may_set(member, admin):
    for field in (
        {"shared": True},
        {"router:external": True},
        {"provider:network_type": "vxlan"},
        {"is_default": True},
    ):
        response = await member.call("POST", "/v2.0/networks", {"network": field})
        assert (response.status_code, error(response)) == (403, "PolicyNotAuthorized")
    await member.network(shared=False)
    await member.post("/v2.0/networks", {"network": {"project_id": "p2"}}, 400)
    assert (await admin.network(tenant_id="p2"))["project_id"] == "p2"


async def test_segments_are_unique(admin):
    fields = {"provider:network_type": "vxlan", "provider:segmentation_id": 4711}
    made = await admin.network(**fields)
    assert made["provider:segmentation_id"] == 4711
    response = await admin.call("POST", "/v2.0/networks", {"network": fields})
    assert (response.status_code, error(response)) == (409, "TunnelIdInUse")
    drawn = [(await admin.network())["provider:segmentation_id"] for _ in range(5)]
    assert len(set(drawn)) == 5


async def test_types_that_are_not_offered_are_refused(admin):
    flat = {"provider:network_type": "flat", "provider:physical_network": "physnet1"}
    assert (await admin.network(**flat))["provider:segmentation_id"] is None
    for fields in (
        {**flat, "provider:physical_network": "nothing"},
        {"provider:network_type": "vlan", "provider:segmentation_id": 7},
        {"provider:network_type": "vxlan", "provider:physical_network": "physnet1"},
        {"provider:network_type": "vxlan", "provider:segmentation_id": 2**24},
        {"provider:segmentation_id": 5},
        {"mtu": 9000},
    ):
        response = await admin.call("POST", "/v2.0/networks", {"network": fields})
        assert (response.status_code, error(response)) == (400, "InvalidInput"), fields


async def test_bulk_makes_all_or_none(member):
    body = {"networks": [{"name": "a"}, {"name": "b"}]}
    assert [one["name"] for one in (await member.post("/v2.0/networks", body))["networks"]] == ["a", "b"]
    await member.post("/v2.0/networks", {"networks": [{"name": "c"}, {"nonsense": 1}]}, 400)
    await member.post("/v2.0/networks", {"networks": []}, 400)
    assert len((await member.get("/v2.0/networks"))["networks"]) == 2


async def test_sharing_ends_only_when_nobody_else_is_there(admin, member):
    network = await admin.network(shared=True)
    await admin.subnet(network)
    port = await member.port(network)
    path = f"/v2.0/networks/{network['id']}"
    response = await admin.call("PUT", path, {"network": {"shared": False}})
    assert (response.status_code, error(response)) == (409, "InvalidSharedSetting")
    response = await admin.call("DELETE", path)
    assert (response.status_code, error(response)) == (409, "NetworkInUse")
    await member.delete(f"/v2.0/ports/{port['id']}")
    await admin.put(path, {"network": {"shared": False}})
    await admin.delete(path)
    assert (await admin.get("/v2.0/ports"))["ports"] == []


async def test_the_default_external_network_is_one(admin):
    one = await admin.network(**{"router:external": True, "is_default": True})
    two = await admin.network(**{"router:external": True, "is_default": True})
    found = (await admin.get("/v2.0/networks?is_default=true"))["networks"]
    assert [network["id"] for network in found] == [two["id"]] != [one["id"]]
