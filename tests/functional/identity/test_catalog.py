"""The catalog: what is there from the start, and what an administrator adds."""

from .world import ADMIN_PASSWORD, Admin, World


async def catalog(world: World) -> dict[str, list[str]]:
    token = (await world.log_in(world.ids.admin_user_id, ADMIN_PASSWORD)).json()["token"]
    return {one["type"]: [endpoint["url"] for endpoint in one["endpoints"]] for one in token["catalog"]}


async def test_a_service_and_its_endpoints(world: World, admin: Admin) -> None:
    body = {"service": {"type": "dns", "name": "designate", "description": "names"}}
    service = (await admin.call("POST", "/services", body, expect=201))["service"]
    assert service["description"] == "names"
    body = {
        "endpoint": {
            "service_id": service["id"],
            "interface": "public",
            "url": "http://dns/$(project_id)s",
            "region": "North",
        }
    }
    endpoint = (await admin.call("POST", "/endpoints", body, expect=201))["endpoint"]
    assert endpoint["region_id"] == endpoint["region"] == "North"
    assert (await catalog(world))["dns"] == [f"http://dns/{world.ids.admin_project_id}"]

    found = await admin.call("GET", f"/endpoints?service_id={service['id']}&interface=public")
    assert [one["id"] for one in found["endpoints"]] == [endpoint["id"]]
    await admin.call("DELETE", "/regions/North", expect=403)
    await admin.call("PATCH", f"/endpoints/{endpoint['id']}", {"endpoint": {"enabled": False}}, expect=200)
    assert (await catalog(world))["dns"] == []
    await admin.call("PATCH", f"/services/{service['id']}", {"service": {"enabled": False}}, expect=200)
    assert "dns" not in await catalog(world)
    await admin.call("DELETE", f"/services/{service['id']}", expect=204)
    await admin.call("GET", f"/endpoints/{endpoint['id']}", expect=404)
    await admin.call("DELETE", "/regions/North", expect=204)


async def test_regions(admin: Admin) -> None:
    await admin.call("POST", "/regions", {"region": {"id": "North", "description": "cold"}}, expect=201)
    await admin.call("POST", "/regions", {"region": {"id": "North"}}, expect=409)
    await admin.call("PUT", "/regions/Pole", {"region": {"parent_region_id": "North"}}, expect=201)
    await admin.call("POST", "/regions", {"region": {"parent_region_id": "nowhere"}}, expect=400)
    await admin.call("PUT", "/regions/Self", {"region": {"parent_region_id": "Self"}}, expect=400)
    await admin.call("GET", "/regions/Self", expect=404)
    found = await admin.call("GET", "/regions?parent_region_id=North")
    assert [one["id"] for one in found["regions"]] == ["Pole"]
    await admin.call("PATCH", "/regions/North", {"region": {"parent_region_id": "Pole"}}, expect=400)
    region = (await admin.call("PATCH", "/regions/Pole", {"region": {"description": "colder"}}))["region"]
    assert region["description"] == "colder"
    assert region["parent_region_id"] == "North"
    await admin.call("DELETE", "/regions/North", expect=403)
    await admin.call("DELETE", "/regions/Pole", expect=204)
    await admin.call("DELETE", "/regions/North", expect=204)


async def test_bad_endpoints(world: World, admin: Admin) -> None:
    service = (await admin.call("GET", "/services"))["services"][0]["id"]
    good = {"service_id": service, "interface": "public", "url": "http://x"}
    for change in ({"interface": "outer"}, {"url": ""}, {"service_id": "0" * 32}, {"region_id": "nowhere"}):
        await admin.call("POST", "/endpoints", {"endpoint": good | change}, expect=400)
    for missing in good:
        body = {"endpoint": {key: value for key, value in good.items() if key != missing}}
        await admin.call("POST", "/endpoints", body, expect=400)
