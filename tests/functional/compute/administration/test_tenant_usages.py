"""Accounts: what projects used in a period."""

import pytest
from sqlalchemy import update

from muster.store.servers import servers

P1, P2 = "a" * 32, "b" * 32
PATH = "/os-simple-tenant-usage"
HOUR = 3600.0
DAY = "2026-01-01T00:00:00"
T0 = 1_767_225_600.0  # that day


async def three_servers(bed, member, other) -> dict[str, str]:
    """One that lives for ever, one that lived for an hour, one of another project."""
    found = {}
    for client, name, flavor, ended in (
        (member, "on", "1", None),
        (member, "off", "2", 1),
        (other, "theirs", "1", None),
    ):
        made = await client.post("/servers", await bed.server_body(name, flavorRef=flavor), status=202)
        server_id = found[name] = made["server"]["id"]
        await bed.settled(client, server_id)
        times = {"launched_at": T0, "terminated_at": None if ended is None else T0 + HOUR}
        async with bed.database.write() as connection:
            await connection.execute(update(servers).where(servers.c.id == server_id).values(**times))
    return found


async def test_hours_times_sizes(bed, admin, member, other):
    ids = await three_servers(bed, member, other)
    period = f"start={DAY}&end=2026-01-01T02:00:00"
    mine = (await member.get(f"{PATH}/{P1}?{period}"))["tenant_usage"]
    assert mine["total_hours"] == pytest.approx(3.0)
    assert mine["total_vcpus_usage"] == pytest.approx(3.0)
    assert mine["total_memory_mb_usage"] == pytest.approx(2 * 512 + 1 * 2048)
    assert mine["total_local_gb_usage"] == pytest.approx(2 * 1 + 1 * 20)
    assert (mine["start"], mine["stop"]) == ("2026-01-01T00:00:00.000000", "2026-01-01T02:00:00.000000")
    rows = {row["name"]: row for row in mine["server_usages"]}
    assert rows["off"]["state"] == "terminated"
    assert (rows["off"]["ended_at"], rows["off"]["uptime"]) == ("2026-01-01T01:00:00.000000", 3600)
    assert (rows["on"]["instance_id"], rows["on"]["state"], rows["on"]["ended_at"]) == (ids["on"], "active", None)
    assert (rows["on"]["flavor"], rows["on"]["hours"], rows["on"]["memory_mb"]) == ("m1.tiny", 2.0, 512)
    every = (await admin.get(f"{PATH}?{period}"))["tenant_usages"]
    assert {one["tenant_id"]: one["total_hours"] for one in every} == {P1: 3.0, P2: 2.0}
    assert "server_usages" not in every[0]
    detailed = (await admin.get(f"{PATH}?{period}&detailed=True"))["tenant_usages"]
    assert sum(len(one["server_usages"]) for one in detailed) == 3
    later = (await member.get(f"{PATH}/{P1}?start=2026-01-01T01:30:00&end=2026-01-01T02:00:00"))["tenant_usage"]
    assert [row["name"] for row in later["server_usages"]] == ["on"]
    before = (await member.get(f"{PATH}/{P1}?start=2025-12-01&end=2025-12-31"))["tenant_usage"]
    assert set(before) == set(later)
    assert (before["tenant_id"], before["server_usages"]) == (P1, [])
    assert {value for name, value in before.items() if name.startswith("total_")} == {0}


async def test_pages_from_2_40_on(bed, admin, member, other):
    await three_servers(bed, member, other)
    query = f"{PATH}?start={DAY}&detailed=1"
    assert "tenant_usages_links" not in await admin.get(query + "&limit=1", v="2.39")
    seen, url = [], query + "&limit=2"
    while url:
        page = await admin.get(url, v="2.40")
        seen += [row["instance_id"] for one in page["tenant_usages"] for row in one["server_usages"]]
        links = page.get("tenant_usages_links", [])
        url = links[0]["href"].removeprefix("http://cloud/v2.1") if links else ""
    assert len(seen) == len(set(seen)) == 3
    await admin.get(f"{PATH}?limit=x", v="2.40", status=400)
    await admin.get(f"{PATH}?marker=none", v="2.40", status=400)


async def test_refusals(admin, member, other):
    assert (await member.refusal("GET", PATH))[:2] == (403, "forbidden")
    assert (await other.refusal("GET", f"{PATH}/{P1}"))[:2] == (403, "forbidden")
    for query in ("start=yesterday", "end=x", f"start={DAY}&end={DAY}", f"start={DAY}&end=2025-01-01"):
        assert (await admin.refusal("GET", f"{PATH}?{query}"))[:2] == (400, "badRequest"), query
    assert (await admin.get(PATH))["tenant_usages"] == []
    await admin.get(f"{PATH}?other=1", v="2.75", status=400)
