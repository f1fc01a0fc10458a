"""Versions, extensions, agents and zones; what is not offered says so."""

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
    for path in ("routers", "floatingips", "subnetpools", "service-providers", "trunks", "qos/policies"):
        response = await member.call("GET", f"/v2.0/{path}")
        assert (response.status_code, response.json()["NeutronError"]["type"]) == (404, "HTTPNotFound")
    await member.put("/v2.0/networks", {}, 405)


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
    zones = (await member.get("/v2.0/availability_zones"))["availability_zones"]
    assert [zone["name"] for zone in zones] == ["nova", "west"]
    assert (await member.network(availability_zone_hints=["west"]))["availability_zone_hints"] == ["west"]
    await member.post("/v2.0/networks", {"network": {"availability_zone_hints": ["nothing"]}}, 404)
