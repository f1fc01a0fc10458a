"""Hypervisors, compute services and availability zones, by microversion; a disabled or silent host gets no servers."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, update

from muster.base.ids import is_uuid, new_uuid
from muster.store import hosts as host_store
from muster.store.hosts import hosts

FIGURES = {
    "vcpus",
    "memory_mb",
    "local_gb",
    "vcpus_used",
    "memory_mb_used",
    "local_gb_used",
    "free_ram_mb",
    "free_disk_gb",
    "current_workload",
    "running_vms",
    "disk_available_least",
}
BRIEF = {"id", "hypervisor_hostname", "state", "status"}
FULL = BRIEF | {"hypervisor_type", "hypervisor_version", "host_ip", "service"}


@contextmanager
def queries(bed):
    """The queries for hypervisors and for their servers that are sent meanwhile; the cloud at work sends others."""
    asked: list[str] = []

    def note(_connection, _cursor, statement, *_rest) -> None:
        if statement.startswith(("SELECT hosts.id, hosts.hostname, hosts.hypervisor_type", "SELECT servers.host_id")):
            asked.append(statement)

    engine = bed.database._reader.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    yield asked
    event.remove(engine, "before_cursor_execute", note)


@pytest.fixture
def silence(bed, monkeypatch) -> Callable[[str], Awaitable[None]]:
    """Nothing was ever heard of the host, and its heartbeats are heard no more.

    Nor is any host that says hello again, as they do when the answer is late: it would be there again, as it is.
    """
    note_seen, silent = host_store.note_seen, set()

    async def note_others(connection, host_ids, now):
        return await note_seen(connection, set(host_ids) - silent, now)

    async def write_none(*_: object) -> None:
        return None

    async def silence(hostname: str) -> None:
        monkeypatch.setattr(host_store, "note_seen", note_others)
        monkeypatch.setattr(host_store, "write_hellos", write_none)
        async with bed.database.write() as connection:
            found = update(hosts).where(hosts.c.hostname == hostname).values(last_seen_at=0.0).returning(hosts.c.id)
            silent.add((await connection.execute(found)).scalar_one())

    return silence


async def hosts_of_new_servers(bed, admin, count: int = 3) -> set[str]:
    made = await admin.post("/servers", await bed.server_body(min_count=count, return_reservation_id=True), status=202)
    query = f"/servers/detail?reservation_id={made['reservation_id']}"
    for one in (await admin.get(query))["servers"]:
        await bed.settled(admin, one["id"])
    return {one["OS-EXT-SRV-ATTR:host"] for one in (await admin.get(query))["servers"]}


async def by_name(admin, path: str = "/os-hypervisors/detail", v: str = "2.87") -> dict[str, dict[str, Any]]:
    return {one["hypervisor_hostname"]: one for one in (await admin.get(path, v=v))["hypervisors"]}


async def test_fields_by_microversion(admin):
    [first, second] = (await admin.get("/os-hypervisors"))["hypervisors"]
    assert set(first) == BRIEF
    assert isinstance(first["id"], int)
    assert (first["state"], first["status"], first["hypervisor_hostname"]) == ("up", "enabled", "sim-0000")
    [old, _] = (await admin.get("/os-hypervisors/detail"))["hypervisors"]
    assert set(old) == FULL | FIGURES | {"cpu_info"}
    assert isinstance(old["cpu_info"], str)
    assert isinstance((await by_name(admin, v="2.28"))["sim-0000"]["cpu_info"], dict)
    assert old["service"] == {"id": first["id"], "host": "sim-0000", "disabled_reason": None}
    newer = (await by_name(admin, v="2.53"))["sim-0000"]
    assert is_uuid(newer["id"])
    assert newer["service"]["id"] == newer["id"]
    assert set((await by_name(admin, v="2.88"))["sim-0000"]) == FULL | {"uptime"}
    shown = (await admin.get(f"/os-hypervisors/{first['id']}", v="2.52"))["hypervisor"]
    assert shown["hypervisor_hostname"] == "sim-0000"
    assert (await admin.get(f"/os-hypervisors/{newer['id']}", v="2.53"))["hypervisor"]["id"] == newer["id"]
    assert second["hypervisor_hostname"] == "sim-0001"


async def test_names_of_none_are_refused(admin):
    assert await admin.refusal("GET", "/os-hypervisors/none", v="2.53") == (400, "badRequest", "Invalid uuid none")
    nobody = new_uuid()
    message = f"Hypervisor with ID '{nobody}' could not be found."
    assert await admin.refusal("GET", f"/os-hypervisors/{nobody}", v="2.53") == (404, "itemNotFound", message)
    for wrong in ("none", "5", "0", "9" * 19, "9" * 40, nobody):
        assert (await admin.refusal("GET", f"/os-hypervisors/{wrong}", v="2.52"))[0] == 404, wrong
    assert (await admin.refusal("GET", f"/os-hypervisors/{nobody}/uptime", v="2.53"))[0] == 404


async def test_figures_are_the_claims(bed, admin):
    before = (await admin.get("/os-hypervisors/statistics"))["hypervisor_statistics"]
    assert (before["count"], before["running_vms"], before["memory_mb_used"]) == (2, 0, 0)
    await admin.post("/servers", await bed.server_body(flavorRef="1", min_count=3), status=202)
    found = await by_name(admin)
    for host in found.values():
        assert host["free_ram_mb"] == host["memory_mb"] - host["memory_mb_used"]
        assert host["memory_mb_used"] == 512 * host["running_vms"]
    assert sum(host["running_vms"] for host in found.values()) == 3
    after = (await admin.get("/os-hypervisors/statistics"))["hypervisor_statistics"]
    assert (after["running_vms"], after["memory_mb_used"], after["vcpus_used"], after["local_gb_used"]) == (
        3,
        1536,
        3,
        3,
    )
    assert set(after) == FIGURES | {"count"}
    await admin.get("/os-hypervisors/statistics", v="2.87")
    assert (await admin.refusal("GET", "/os-hypervisors/statistics", v="2.88"))[0] == 404


async def test_pages_and_patterns(admin):
    page = await admin.get("/os-hypervisors?limit=1", v="2.53")
    [first] = page["hypervisors"]
    href = f"http://cloud/v2.1/os-hypervisors?limit=1&marker={first['id']}"
    assert page["hypervisors_links"] == [{"rel": "next", "href": href}]
    rest = await admin.get(f"/os-hypervisors?limit=1&marker={first['id']}", v="2.53")
    assert [one["hypervisor_hostname"] for one in rest["hypervisors"]] == ["sim-0001"]
    assert len((await admin.get("/os-hypervisors?limit=1", v="2.32"))["hypervisors"]) == 2
    for query in ("limit=x", "limit=-1", f"marker={new_uuid()}", "with_servers=perhaps"):
        await admin.get(f"/os-hypervisors?{query}", v="2.53", status=400)
    found = await admin.get("/os-hypervisors?hypervisor_hostname_pattern=0001", v="2.53")
    assert [one["hypervisor_hostname"] for one in found["hypervisors"]] == ["sim-0001"]
    for part in ("%25", "none", "_"):
        await admin.get(f"/os-hypervisors?hypervisor_hostname_pattern={part}", v="2.53", status=404)
    await admin.get("/os-hypervisors?hypervisor_hostname_pattern=0&limit=1", v="2.53", status=400)


async def test_servers_of_hypervisors(bed, admin):
    [host] = await hosts_of_new_servers(bed, admin, 1)
    [server] = (await admin.get("/servers"))["servers"]
    mine = [{"name": "vm", "uuid": server["id"]}]
    for path in ("/os-hypervisors", "/os-hypervisors/detail"):
        found = await by_name(admin, f"{path}?with_servers=True", v="2.74")
        assert found.pop(host)["servers"] == mine
        [empty] = found.values()
        assert "servers" not in empty
        found = await by_name(admin, f"{path}?with_servers=1", v="2.75")
        assert sorted((one["servers"] for one in found.values()), key=len) == [[], mine]
    for version, key in (("2.74", None), ("2.75", [])):
        alone = (await admin.get(f"/os-hypervisors/{empty['id']}?with_servers=1", v=version))["hypervisor"]
        assert alone.get("servers") == key
    assert "servers" not in (await admin.get(f"/os-hypervisors/{empty['id']}", v="2.96"))["hypervisor"]
    uuid = found[host]["id"]
    assert (await admin.get(f"/os-hypervisors/{uuid}?with_servers=yes", v="2.53"))["hypervisor"]["servers"] == mine
    old = (await admin.get(f"/os-hypervisors/{host}/servers"))["hypervisors"]
    assert old[0]["servers"] == mine
    assert len((await admin.get("/os-hypervisors/sim/search"))["hypervisors"]) == 2
    message = "No hypervisor matching 'none' could be found."
    assert await admin.refusal("GET", "/os-hypervisors/none/search") == (404, "itemNotFound", message)
    assert (await admin.refusal("GET", "/os-hypervisors/none/servers"))[0] == 404
    for verb in ("search", "servers"):
        assert (await admin.refusal("GET", f"/os-hypervisors/sim/{verb}", v="2.53"))[0] == 404


async def test_a_page_costs_one_query_whatever_its_length(bed, admin):
    with queries(bed) as asked:
        await admin.get("/os-hypervisors/detail", v="2.53")
    assert len(asked) == 1
    with queries(bed) as asked:
        await admin.get("/os-hypervisors/detail?with_servers=True", v="2.53")
    assert len(asked) == 2


async def test_uptime(bed, admin, silence):
    [one, _] = (await admin.get("/os-hypervisors", v="2.53"))["hypervisors"]
    path = f"/os-hypervisors/{one['id']}"
    shown = (await admin.get(f"{path}/uptime", v="2.53"))["hypervisor"]
    assert set(shown) == BRIEF | {"uptime"}
    assert " up 0 days,  0:0" in shown["uptime"]
    # As the `openstack` command takes it apart.
    assert re.match(r"\s*(.+)\sup\s+(.+),\s+(.+)\susers?,\s+load average:\s(.+)", shown["uptime"])
    assert " up 0 days" in (await admin.get(path, v="2.88"))["hypervisor"]["uptime"]
    assert (await admin.refusal("GET", f"{path}/uptime", v="2.88"))[0] == 404
    await silence("sim-0000")
    assert (await admin.refusal("GET", f"{path}/uptime", v="2.53"))[0] == 400
    assert (await admin.get(path, v="2.88"))["hypervisor"]["uptime"] is None


async def test_services_by_microversion(admin):
    [first, _] = (await admin.get("/os-services"))["services"]
    assert isinstance(first["id"], int)
    assert {name: first[name] for name in ("binary", "host", "zone", "status", "state", "disabled_reason")} == {
        "binary": "nova-compute",
        "host": "sim-0000",
        "zone": "nova",
        "status": "enabled",
        "state": "up",
        "disabled_reason": None,
    }
    assert "forced_down" not in first
    assert (await admin.get("/os-services", v="2.11"))["services"][0]["forced_down"] is False
    assert is_uuid((await admin.get("/os-services", v="2.53"))["services"][0]["id"])
    for query, count in (("host=sim-0001", 1), ("host=none", 0), ("binary=nova-compute", 2), ("binary=nova-api", 0)):
        assert len((await admin.get(f"/os-services?{query}"))["services"]) == count
    assert (await admin.get("/os-services?host=sim-0001&binary=nova-compute"))["services"][0]["host"] == "sim-0001"


async def test_a_disabled_host_gets_no_servers_until_it_is_enabled(bed, admin):
    path = f"/os-services/{(await admin.get('/os-services?host=sim-0000', v='2.53'))['services'][0]['id']}"
    changed = await admin.put(path, {"status": "disabled", "disabled_reason": "repair"}, v="2.53")
    service = changed["service"]
    assert (service["status"], service["disabled_reason"], service["state"]) == ("disabled", "repair", "up")
    assert await hosts_of_new_servers(bed, admin) == {"sim-0001"}
    assert (await by_name(admin))["sim-0000"]["status"] == "disabled"
    assert (await admin.get("/os-hypervisors/statistics"))["hypervisor_statistics"]["count"] == 1
    service = (await admin.put(path, {"status": "enabled"}, v="2.53"))["service"]
    assert (service["status"], service["disabled_reason"]) == ("enabled", None)
    assert "sim-0000" in await hosts_of_new_servers(bed, admin)
    service = (await admin.put(path, {"forced_down": True}, v="2.53"))["service"]
    assert (service["forced_down"], service["state"], service["status"]) == (True, "down", "enabled")
    assert await hosts_of_new_servers(bed, admin) == {"sim-0001"}


async def test_the_old_way_to_change_services(bed, admin):
    named = {"host": "sim-0000", "binary": "nova-compute"}
    changed = await admin.put("/os-services/disable", named)
    assert changed["service"] == {**named, "status": "disabled"}
    reason = {**named, "disabled_reason": "repair"}
    assert (await admin.put("/os-services/disable-log-reason", reason))["service"] == {**reason, "status": "disabled"}
    assert (await admin.get("/os-services?host=sim-0000"))["services"][0]["disabled_reason"] == "repair"
    assert (await admin.put("/os-services/enable", named))["service"] == {**named, "status": "enabled"}
    down = {**named, "forced_down": True}
    assert (await admin.put("/os-services/force-down", down, v="2.11"))["service"] == down
    assert (await admin.get("/os-services?host=sim-0000", v="2.11"))["services"][0]["forced_down"] is True
    await admin.put("/os-services/force-down", down, v="2.10", status=404)
    await admin.put("/os-services/whatever", named, status=404)
    for other in ({**named, "host": "none"}, {**named, "binary": "nova-api"}):
        refusal = await admin.refusal("PUT", "/os-services/enable", other)
        message = f"Could not find binary {other['binary']} on host {other['host']}."
        assert refusal == (404, "itemNotFound", message)
    for verb, wrong in (
        ("enable", {}),
        ("enable", {"host": "sim-0000"}),
        ("enable", {**named, "disabled_reason": "x"}),
        ("enable", {**named, "host": "a\x00"}),
        ("disable-log-reason", named),
        ("disable-log-reason", {**named, "disabled_reason": " "}),
        ("disable-log-reason", {**named, "disabled_reason": "x" * 256}),
        ("force-down", named),
        ("force-down", {**named, "forced_down": "perhaps"}),
    ):
        assert (await admin.refusal("PUT", f"/os-services/{verb}", wrong, v="2.11"))[0] == 400, (verb, wrong)
    assert (await admin.refusal("PUT", "/os-services/enable", {"status": "enabled"}, v="2.53"))[0] == 400


async def test_bad_changes_of_services(admin):
    path = f"/os-services/{(await admin.get('/os-services', v='2.53'))['services'][0]['id']}"
    for wrong in (
        {},
        {"status": "asleep"},
        {"status": 1},
        {"disabled_reason": "x"},
        {"status": "enabled", "disabled_reason": "x"},
        {"status": "disabled", "disabled_reason": "x" * 256},
        {"status": "disabled", "disabled_reason": "\x00"},
        {"forced_down": "perhaps"},
        {"forced_down": 5},
        {"other": 1},
        [],
    ):
        assert (await admin.refusal("PUT", path, wrong, v="2.53"))[:2] == (400, "badRequest"), wrong
    nobody = new_uuid()
    message = f"Service {nobody} could not be found."
    body = {"status": "enabled"}
    assert await admin.refusal("PUT", f"/os-services/{nobody}", body, v="2.53") == (404, "itemNotFound", message)
    assert (await admin.refusal("DELETE", f"/os-services/{nobody}", v="2.53"))[0] == 404
    assert (await admin.refusal("DELETE", "/os-services/none", v="2.53"))[0] == 400


async def test_a_host_is_forgotten_once_it_holds_no_servers(bed, admin):
    [host] = await hosts_of_new_servers(bed, admin, 1)
    [server] = (await admin.get("/servers"))["servers"]
    path = f"/os-services/{(await admin.get(f'/os-services?host={host}', v='2.53'))['services'][0]['id']}"
    message = "Unable to delete compute service that is hosting instances. Migrate or delete the instances first."
    assert await admin.refusal("DELETE", path, v="2.53") == (409, "conflictingRequest", message)
    await bed.gone(admin, server["id"])
    await admin.delete(path, v="2.53", status=204)
    assert host not in {one["host"] for one in (await admin.get("/os-services"))["services"]}
    await admin.delete(path, v="2.53", status=404)


async def test_a_silent_host_is_down_and_gets_no_servers(bed, admin, silence):
    await silence("sim-0000")
    assert (await admin.get("/os-services?host=sim-0000"))["services"][0]["state"] == "down"
    assert (await by_name(admin))["sim-0000"]["state"] == "down"
    assert await hosts_of_new_servers(bed, admin) == {"sim-0001"}


async def test_availability_zones(bed, admin, member, silence):
    zones = (await member.get("/os-availability-zone"))["availabilityZoneInfo"]
    assert zones == [{"zoneName": "nova", "zoneState": {"available": True}, "hosts": None}]
    await silence("sim-0000")
    async with bed.database.write() as connection:
        move = update(hosts).where(hosts.c.hostname == "sim-0001")
        await connection.execute(move.values(availability_zone="east", disabled=True))
    zones = (await admin.get("/os-availability-zone/detail"))["availabilityZoneInfo"]
    assert [(zone["zoneName"], zone["zoneState"]["available"]) for zone in zones] == [("east", False), ("nova", True)]
    (east_host, east), (nova_host, nova) = (next(iter(zone["hosts"].items())) for zone in zones)
    assert (east_host, nova_host) == ("sim-0001", "sim-0000")
    east, nova = east["nova-compute"], nova["nova-compute"]
    assert (east["active"], east["available"]) == (False, True)
    assert (nova["active"], nova["available"]) == (True, False)
    assert nova["updated_at"] == "1970-01-01T00:00:00.000000"


async def test_hosts_until_2_42(bed, admin, member):
    listed = (await admin.get("/os-hosts", v="2.42"))["hosts"]
    assert listed[0] == {"host_name": "sim-0000", "service": "compute", "zone": "nova"}
    assert (await admin.get("/os-hosts?zone=none"))["hosts"] == []
    assert len((await admin.get("/os-hosts?zone=nova"))["hosts"]) == 2
    server = await member.post("/servers", await bed.server_body(flavorRef="1"), status=202)
    host = (await bed.settled(admin, server["server"]["id"]))["OS-EXT-SRV-ATTR:host"]
    shown = [one["resource"] for one in (await admin.get(f"/os-hosts/{host}"))["host"]]
    assert [one["project"] for one in shown] == ["(total)", "(used_now)", "(used_max)", "a" * 32]
    assert shown[3] == {"host": host, "project": "a" * 32, "cpu": 1, "memory_mb": 512, "disk_gb": 1}
    assert shown[1]["memory_mb"] == 512
    assert (await admin.refusal("GET", "/os-hosts/none"))[::2] == (404, "Host none could not be found.")
    for path in ("/os-hosts", f"/os-hosts/{host}"):
        assert (await admin.refusal("GET", path, v="2.43"))[0] == 404
        assert (await member.refusal("GET", path))[0] == 403


async def test_a_host_is_enabled_and_disabled_until_2_42(admin, member):
    path = "/os-hosts/sim-0001"
    assert await admin.put(path, {"status": "Disable"}) == {"host": "sim-0001", "status": "disabled"}
    services = {one["host"]: one["status"] for one in (await admin.get("/os-services"))["services"]}
    assert services == {"sim-0000": "enabled", "sim-0001": "disabled"}
    assert await admin.put(path, {"status": "enable"}) == {"host": "sim-0001", "status": "enabled"}

    for body in ({}, {"status": "off"}, {"status": None}, {"maintenance_mode": "on"}, {"status": "enable", "x": "y"}):
        assert (await admin.refusal("PUT", path, body))[0] == 400
    both = {"status": "disable", "maintenance_mode": "enable"}
    assert (await admin.refusal("PUT", path, both))[0] == 501
    assert (await admin.refusal("PUT", "/os-hosts/none", both))[0] == 404
    assert (await member.refusal("PUT", path, both))[0] == 403
    assert (await admin.refusal("PUT", path, {"status": "disable"}, v="2.43"))[0] == 404
    assert {one["status"] for one in (await admin.get("/os-services"))["services"]} == {"enabled"}


async def test_hosts_are_not_switched_on_or_off(admin, member):
    for verb in ("startup", "shutdown", "reboot"):
        assert (await admin.refusal("GET", f"/os-hosts/sim-0000/{verb}"))[0] == 501
        assert (await admin.refusal("GET", f"/os-hosts/none/{verb}"))[0] == 404
        assert (await member.refusal("GET", f"/os-hosts/sim-0000/{verb}"))[0] == 403
    assert (await admin.refusal("GET", "/os-hosts/sim-0000/explode"))[0] == 404


async def test_all_of_it_is_for_admins(member, reader):
    paths = ["/os-hypervisors", "/os-hypervisors/detail", "/os-hypervisors/1", "/os-hypervisors/statistics"]
    paths += ["/os-services", "/os-availability-zone/detail", "/os-hypervisors/1/servers", "/os-hypervisors/1/uptime"]
    answers = await asyncio.gather(*(one.call("GET", path) for path in paths for one in (member, reader)))
    answers += [await member.call("PUT", "/os-services/enable", {}), await member.call("DELETE", "/os-services/1")]
    assert {answer.status_code for answer in answers} == {403}
