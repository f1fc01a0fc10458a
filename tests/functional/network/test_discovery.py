"""Versions, extensions, agents and zones; what is not offered says so."""

from unittest.mock import ANY

from sqlalchemy import insert

from muster.api.network.extensions import EXTENSIONS
from muster.base.clock import system_clock
from muster.store.hosts import hosts


async def test_versions_need_no_token(cloud):
    anyone = cloud.client("")
    [version] = (await anyone.get("/"))["versions"]
    assert (version["id"], version["status"]) == ("v2.0", "CURRENT")
    assert version["links"] == [{"rel": "self", "href": "http://cloud/v2.0/"}]
    assert {one["collection"] for one in (await anyone.get("/v2.0/"))["resources"]} >= {"networks", "ports"}


async def test_extensions(member):
    listed = (await member.get("/v2.0/extensions"))["extensions"]
    assert {one["alias"] for one in listed} == set(EXTENSIONS)
    assert (await member.get("/v2.0/extensions/quotas"))["extension"]["alias"] == "quotas"
    for alias in ("router", "external-gateway-multihoming", "Availability%20Zone"):
        await member.get(f"/v2.0/extensions/{alias}", 404)


async def test_what_is_not_offered_is_not_found(member):
    for path in ("routers", "floatingips", "subnetpools", "trunks", "qos/policies"):
        response = await member.call("GET", f"/v2.0/{path}")
        error = response.json()["NeutronError"]
        assert (response.status_code, error["type"]) == (404, "HTTPNotFound")
        assert "this cloud has no" in error["message"]
    for path in ("routers/x", "routers/x/add_router_interface"):
        error = (await member.get(f"/v2.0/{path}", 404))["NeutronError"]
        assert "at the addresses of their networks" in error["message"]
    assert (await member.get("/v2.0/nothing", 404))["NeutronError"]["message"] == "The resource could not be found."
    await member.put("/v2.0/networks", {}, 405)


async def test_nobody_provides_further_services(member):
    assert await member.get("/v2.0/service-providers?service_type=VPN&fields=name") == {"service_providers": []}
    await member.get("/v2.0/service-providers?nothing=1", 400)


async def test_agents_are_the_hosts(cloud, admin, member):
    now = system_clock()
    common = {
        "hypervisor_type": "QEMU",
        "hypervisor_version": 1,
        "host_ip": "127.0.0.1",
        "vcpus": 1,
        "ram_mib": 1,
        "disk_gib": 1,
        "vcpus_limit": 1,
        "ram_limit_mib": 1,
        "disk_limit_gib": 1,
        "created_at": now,
        "updated_at": now,
    }
    async with cloud.database.write() as connection:
        for name, seen, zone in (("h1", now, "nova"), ("h2", now - 500, "west")):
            values = {"id": f"id-{name}", "hostname": name, "last_seen_at": seen, "availability_zone": zone}
            await connection.execute(insert(hosts).values(**common, **values))
    agents = (await admin.get("/v2.0/agents"))["agents"]
    assert [(one["host"], one["binary"], one["alive"]) for one in agents] == [
        ("h1", "neutron-dhcp-agent", True),
        ("h1", "neutron-linuxbridge-agent", True),
        ("h2", "neutron-dhcp-agent", False),
        ("h2", "neutron-linuxbridge-agent", False),
    ]
    [chosen] = (await admin.get("/v2.0/agents?host=h2&agent_type=DHCP%20agent"))["agents"]
    assert (await admin.get(f"/v2.0/agents/{chosen['id']}"))["agent"] == chosen
    assert len((await admin.get("/v2.0/agents?alive=false"))["agents"]) == 2
    assert (await member.get("/v2.0/agents"))["agents"] == []
    await admin.get("/v2.0/agents/nothing", 404)
    await admin.put(f"/v2.0/agents/{chosen['id']}", {"agent": {"admin_state_up": False}}, 400)
    await _pages(admin, "agents", "id", [one["id"] for one in agents])
    by_name = sorted(agents, key=lambda one: one["binary"], reverse=True)
    await _pages(admin, "agents", "id", [one["id"] for one in by_name], "sort_key=binary&sort_dir=desc&")
    await _pages(member, "availability_zones", "name", ["nova", "west"])
    zones = (await member.get("/v2.0/availability_zones"))["availability_zones"]
    assert [zone["name"] for zone in zones] == ["nova", "west"]
    assert (await member.network(availability_zone_hints=["west"]))["availability_zone_hints"] == ["west"]
    await member.post("/v2.0/networks", {"network": {"availability_zone_hints": ["nothing"]}}, 404)


async def test_availability_comes_in_pages(member, admin):
    made = {(await member.network(name=name))["id"]: name for name in ("c", "a", "b")}
    await _pages(admin, "network-ip-availabilities", "network_id", sorted(made))
    by_name = sorted(made, key=made.__getitem__)
    await _pages(admin, "network-ip-availabilities", "network_id", by_name, "sort_key=network_name&sort_dir=asc&")


async def _pages(client, path, key, expected, order=""):
    """The list is `expected` at once, and by one, forwards and backwards; its links lead from page to page."""
    collection = path.replace("-", "_")

    async def page(query):
        body = await client.get(f"/v2.0/{path}?{order}{query}")
        return [one[key] for one in body[collection]], {
            link["rel"]: link["href"] for link in body.get(f"{collection}_links", ())
        }

    assert (await page("fields=" + key))[0] == expected
    assert await page(f"limit={len(expected) + 1}") == (expected, {"previous": ANY})
    for index, one in enumerate(expected):
        assert (await page(f"limit=1&marker={one}"))[0] == expected[index + 1 : index + 2]
        assert (await page(f"limit=1&page_reverse=true&marker={one}"))[0] == expected[:index][-1:]
    found, links = await page("limit=1")
    assert found == expected[:1]
    assert f"marker={expected[0]}" in links["next"]
    await client.get(f"/v2.0/{path}?marker=nothing", 404)


async def test_networks_are_sorted_by_a_status_that_all_share(member):
    made = sorted([(await member.network())["id"] for _ in range(3)])
    for direction in ("asc", "desc"):
        body = await member.get(f"/v2.0/networks?sort_key=status&sort_dir={direction}&limit=2")
        rest = await member.get(f"/v2.0/networks?sort_key=status&sort_dir={direction}&marker={made[1]}")
        assert [one["id"] for one in body["networks"] + rest["networks"]] == made
