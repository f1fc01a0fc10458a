"""`GET /servers` and `/servers/detail`: filters, order, pages; who may use which, from which microversion on."""

from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from sqlalchemy import event, update

from muster.store.servers import servers

from ..administration.conftest import P1, P2
from .conftest import Scene

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def three(scene: Scene) -> dict[str, str]:
    """Servers `web-1` (stopped), `web-2` and `db_1`, older first, and one of another project; by name their ids."""
    network_id = await scene.network(cidr="10.30.0.0/24")
    nics = [[{"uuid": network_id, "fixed_ip": f"10.30.0.{n}"}] for n in (11, 12, 113)]
    ids = {
        "web-1": await scene.server("2.52", name="web-1", networks=nics[0], tags=["a", "b"], config_drive=True),
        "web-2": await scene.server("2.52", name="web-2", networks=nics[1], tags=["b"], metadata={"x": "y"}),
        "db_1": await scene.server("2.90", name="db_1", networks=nics[2], flavorRef="1", hostname="database"),
    }
    made = await scene.other.post("/servers", await scene.bed.server_body(name="theirs"), status=202)
    ids["theirs"] = await scene.active(made["server"]["id"])
    await scene.member.post(f"/servers/{ids['web-1']}/action", {"os-stop": None}, status=202)
    await scene.until(ids["web-1"], "SHUTOFF")
    await scene.member.post(f"/servers/{ids['web-2']}/action", {"lock": None}, status=202)
    async with scene.bed.database.write() as connection:
        for age, name in enumerate(("theirs", "db_1", "web-2", "web-1")):
            values: dict[str, Any] = {"created_at": 1_000_000.0 - age}
            await connection.execute(update(servers).where(servers.c.id == ids[name]).values(**values))
    return ids


async def _names(
    scene: Scene, query: str = "", v: str = "2.1", *, admin: bool = False, detail: bool = True
) -> list[str]:
    path = f"/servers/detail?{query}" if detail else f"/servers?{query}"
    client = scene.admin if admin else scene.member
    return [one["name"] for one in (await client.get(path, v=v))["servers"]]


ALL = ["db_1", "web-2", "web-1"]
FILTERS: list[tuple[str, str, list[str]]] = [
    ("2.1", "", ALL),
    ("2.1", "name=web", ["web-2", "web-1"]),
    ("2.1", "name=%5Eweb-1%24", ["web-1"]),
    ("2.1", "name=b_1", ["db_1"]),
    ("2.1", "name=b.1", ["db_1", "web-1"]),
    ("2.1", "name=w.*-2", ["web-2"]),
    ("2.1", "name=%25", []),
    ("2.1", "name=_", ["db_1"]),
    ("2.1", "status=ACTIVE", ["db_1", "web-2"]),
    ("2.1", "status=shutoff", ["web-1"]),
    ("2.1", "status=ACTIVE&status=SHUTOFF", ALL),
    ("2.1", "status=BUILD", []),
    ("2.1", "status=nonsense", []),
    ("2.1", "flavor=1", ["db_1"]),
    ("2.1", "flavor=nowhere", []),
    ("2.1", "ip=10.30.0.11", ["db_1", "web-1"]),
    ("2.1", "ip=%5E10.30.0.1", ALL),
    ("2.1", "ip=fe80", []),
    ("2.5", "ip6=10.30", []),
    ("2.1", "limit=2", ["db_1", "web-2"]),
    ("2.1", "limit=0", []),
    ("2.1", "name=%5E.*%5C-[0-9]%2B$", ["web-2", "web-1"]),
    ("2.1", "name=^(web|db)", ALL),
    ("2.1", "name=^db|2$", ["db_1", "web-2"]),
    ("2.1", "name=we?b\\-1", ["web-1"]),
    ("2.1", "name=^[^w]", ["db_1"]),
    ("2.1", "name=^(we|d)b%5CW", ["web-2", "web-1"]),
    ("2.1", "name=B-[13]$", ["web-1"]),
    ("2.1", "name=^[[:alpha:]]{{3}}%5Cb", ["web-2", "web-1"]),
    ("2.1", "name=b[-_]1&limit=1", ["db_1"]),
    ("2.1", "name=b[-_]1&marker={db_1}", ["web-1"]),
    ("2.1", "ip=0.1[12]$", ["web-2", "web-1"]),
    ("2.1", "ip=1{{3}}3$", []),
    ("2.1", "ip=%5C.1{{2}}3", ["db_1"]),
    ("2.5", "ip6=[0-9]", []),
    ("2.90", "hostname=data(base)?$", ["db_1"]),
    ("2.83", "availability_zone=^[mn]o", ALL),
    ("2.1", "marker={db_1}", ["web-2", "web-1"]),
    ("2.1", "marker={web-2}&limit=1", ["web-1"]),
    ("2.1", "sort_key=display_name&sort_dir=asc", ["db_1", "web-1", "web-2"]),
    ("2.1", "sort_key=display_name&sort_dir=asc&marker={web-1}", ["web-2"]),
    ("2.1", "sort_key=task_state&sort_key=created_at&sort_dir=asc&sort_dir=asc", ["web-1", "web-2", "db_1"]),
    ("2.1", "sort_key=vm_state&sort_dir=desc", ["web-1"]),
    ("2.1", "sort_key=locked_by&sort_key=display_name&sort_dir=desc&sort_dir=asc&marker={web-2}", ["db_1", "web-1"]),
    ("2.72", "sort_key=locked", ALL),
    ("2.73", "sort_key=locked&sort_dir=desc&limit=1", ["web-2"]),
    ("2.26", "tags=b", ["web-2", "web-1"]),
    ("2.26", "tags=a,b", ["web-1"]),
    ("2.26", "tags-any=a,z", ["web-1"]),
    ("2.26", "not-tags=a,b", ["db_1", "web-2"]),
    ("2.26", "not-tags-any=a,b", ["db_1"]),
    ("2.25", "tags=a", ALL),
    ("2.73", "locked=true", ["web-2"]),
    ("2.73", "locked=0", ["db_1", "web-1"]),
    ("2.83", "config_drive=True", ["web-1"]),
    ("2.83", "vm_state=stopped", ["web-1"]),
    ("2.83", "power_state=4", ["web-1"]),
    ("2.83", "power_state=x", []),
    ("2.83", "availability_zone=nova", ALL),
    ("2.83", "availability_zone=mars", []),
    ("2.83", "created_at=1970-01-12T13:46:38Z", ["web-2"]),
    ("2.74", "vm_state=stopped", ALL),
    ("2.90", "hostname=data", ["db_1"]),
    ("2.74", "hostname=data", ALL),
    ("2.1", "colour=red", ALL),
    ("2.1", "host=nowhere", ALL),
    ("2.1", "project_id={other}", ALL),
    ("2.1", "deleted=true", ALL),
    ("2.66", "changes-since=2999-01-01T00:00:00Z", []),
    ("2.66", "changes-since=2001-01-01T00:00:00%2B00:00", ALL),
    ("2.66", "changes-since=2001-01-01T00:00:00Z&changes-before=2001-01-01T00:00:00Z", []),
]


@pytest.mark.parametrize(("version", "query", "names"), FILTERS)
async def test_filters(scene: Scene, three: dict[str, str], version: str, query: str, names: list[str]) -> None:
    text = query.format(**three, other=P2)
    found = await _names(scene, text, version)
    assert found[: len(names)] == names if "vm_state&sort_dir" in query else found == names
    assert await _names(scene, text, version, detail=False) == found


REFUSED: list[tuple[str, str, int]] = [
    ("2.1", "limit=-1", 400),
    ("2.1", "limit=x", 400),
    ("2.1", "limit=99999999999999999999", 400),
    ("2.1", "limit=%C2%B2", 400),
    ("2.1", "marker=11111111-2222-3333-4444-555555555555", 400),
    ("2.1", "marker={theirs}", 400),
    ("2.1", "marker=x", 400),
    ("2.1", "sort_key=colour", 400),
    ("2.1", "sort_key=metadata", 400),
    ("2.75", "sort_key=id", 400),
    ("2.1", "sort_dir=up", 400),
    ("2.1", "sort_key=uuid&sort_dir=asc&sort_dir=asc", 400),
    ("2.1", "sort_key=host", 403),
    ("2.1", "sort_key=node", 403),
    ("2.38", "status=nonsense", 400),
    ("2.1", "status=deleted", 403),
    ("2.1", "all_tenants=1", 403),
    ("2.1", "all_tenants", 403),
    ("2.1", "all_tenants=perhaps", 400),
    ("2.75", "colour=red", 400),
    ("2.75", "metadata=x&colour=x", 400),
    ("2.1", "name=(", 400),
    ("2.1", "name=^(?!web)", 400),
    ("2.1", "ip=(a{{99}}){{99}}", 400),
    ("2.1", "name=%00", 400),
    ("2.1", "name=%ff", 400),
    ("2.1", "changes-since=yesterday", 400),
    ("2.66", "changes-since=2020-01-02T00:00:00Z&changes-before=2020-01-01T00:00:00Z", 400),
    ("2.73", "locked=perhaps", 400),
    ("2.26", "tags=%00", 400),
]


@pytest.mark.parametrize(("version", "query", "status"), REFUSED)
async def test_what_is_refused(scene: Scene, three: dict[str, str], version: str, query: str, status: int) -> None:
    for path in ("/servers", "/servers/detail"):
        got, _, message = await scene.member.refusal("GET", f"{path}?{query.format(**three)}", v=version)
        assert got == status, message


async def test_a_page_links_to_the_next(scene: Scene, three: dict[str, str]) -> None:
    seen: list[str] = []
    path = "/servers/detail?limit=1&sort_key=display_name&sort_dir=asc"
    while path:
        page = await scene.member.get(path)
        seen += [one["name"] for one in page["servers"]]
        [link] = page.get("servers_links", [{"href": ""}])
        path = link["href"].removeprefix("http://cloud/v2.1")
    assert seen == ["db_1", "web-1", "web-2"]


async def test_a_pattern_goes_over_as_many_pages_as_it_takes(
    scene: Scene, three: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muster.services.servers._LEAST_PART", 1)
    assert await _names(scene, "name=[1]$&limit=1&marker={db_1}".format(**three)) == ["web-1"]
    assert await _names(scene, "name=[x]&limit=1") == []
    [one] = (await scene.member.get("/servers/detail?ip=1[1]$&limit=1"))["servers"]
    assert [port["addr"] for ports in one["addresses"].values() for port in ports] == ["10.30.0.11"]
    [one] = (await scene.member.get("/servers/detail?name=b-[1]&limit=1"))["servers"]
    assert [port["addr"] for ports in one["addresses"].values() for port in ports] == ["10.30.0.11"]


async def test_what_admins_may_ask(scene: Scene, three: dict[str, str]) -> None:
    assert await _names(scene, "", admin=True) == []
    assert await _names(scene, "all_tenants=1", admin=True) == ["theirs", *ALL]
    assert await _names(scene, "all_tenants", admin=True) == ["theirs", *ALL]
    assert await _names(scene, "all_tenants=0", admin=True) == []
    assert await _names(scene, f"all_tenants=1&project_id={P2}", admin=True) == ["theirs"]
    assert await _names(scene, f"all_tenants=1&tenant_id={P1}", admin=True) == ALL
    assert await _names(scene, f"project_id={P1}", admin=True) == []
    host = (await scene.until(three["db_1"], "ACTIVE"))["OS-EXT-SRV-ATTR:host"]
    here = await _names(scene, f"all_tenants=1&host={host}", admin=True)
    assert "db_1" in here
    assert await _names(scene, f"all_tenants=1&node={host[:-1]}", admin=True) == ["theirs", *ALL]
    assert "db_1" in await _names(scene, f"all_tenants=1&node=^[{host[0]}]{host[1:]}$", admin=True)
    assert await _names(scene, "all_tenants=1&locked_by=^(o|a)[a-z]*$", admin=True) == ["web-2"]
    for column in ("description", "key_name", "reservation_id", "access_ip_v4", "access_ip_v6"):
        expected = ["theirs", *ALL] if column == "reservation_id" else []
        assert await _names(scene, f"all_tenants=1&{column}=[a-z0-9]", "2.40", admin=True) == expected
    assert await _names(scene, "all_tenants=1&host=nowhere", admin=True) == []
    assert await _names(scene, "all_tenants=1&user_id=bob", admin=True) == ["theirs"]
    assert await _names(scene, f"all_tenants=1&uuid={three['db_1']}", admin=True) == ["db_1"]
    assert await _names(scene, "all_tenants=1&task_state=spawning", admin=True) == []
    assert await _names(scene, "all_tenants=1&kernel_id=x", admin=True) == []
    assert await _names(scene, "all_tenants=1&root_device_name=vda", admin=True) == ["theirs", *ALL]
    assert await _names(scene, "all_tenants=1&display_name=db&description=", admin=True) == []
    assert await _names(scene, "all_tenants=1&locked_by=owner", admin=True) == ["web-2"]
    assert await _names(scene, "all_tenants=1&auto_disk_config=false&launch_index=0", admin=True) == ["theirs", *ALL]
    by_host = await _names(
        scene, "all_tenants=1&sort_key=host&sort_key=created_at&sort_dir=asc&sort_dir=desc", admin=True
    )
    assert sorted(by_host) == sorted(["theirs", *ALL])
    for query in ("metadata=x", "_sa_instance_state=x", "security_groups=x"):
        assert (await scene.admin.refusal("GET", f"/servers?{query}"))[0] == 400


async def test_those_that_are_gone(scene: Scene, three: dict[str, str]) -> None:
    """In the other project: lists of all that has changed show them from now on."""

    async def names(query: str = "") -> list[str]:
        return [one["name"] for one in (await scene.other.get(f"/servers/detail?{query}"))["servers"]]

    made = await scene.other.post("/servers", await scene.bed.server_body(name="gone"), status=202)
    server_id = await scene.active(made["server"]["id"])
    await scene.bed.gone(scene.other, server_id)
    assert await names() == ["theirs"]
    assert "gone" in await names("changes-since=2020-01-01T00:00:00Z")
    shown = (await scene.admin.get("/servers/detail?all_tenants=1&deleted=True"))["servers"]
    [gone] = [one for one in shown if one["id"] == server_id]
    assert gone["status"] == "DELETED"
    assert gone["OS-SRV-USG:terminated_at"]
    assert "gone" in await _names(scene, "all_tenants=1&status=deleted", admin=True)
    assert await _names(scene, "all_tenants=1&deleted=perhaps", admin=True) == ["theirs", *ALL]


async def test_what_a_server_shows_by_microversion(scene: Scene, three: dict[str, str]) -> None:
    path = f"/servers/{three['db_1']}"
    lowest = (await scene.member.get(path))["server"]
    assert lowest["flavor"]["id"] == "1"
    assert {"self", "bookmark"} == {link["rel"] for link in lowest["links"]}
    news = {
        "2.9": "locked",
        "2.19": "description",
        "2.26": "tags",
        "2.63": "trusted_image_certificates",
        "2.71": "server_groups",
        "2.73": "locked_reason",
        "2.90": "OS-EXT-SRV-ATTR:hostname",
        "2.96": "pinned_availability_zone",
    }
    known = set(lowest)
    for version, field in news.items():
        before = f"2.{int(version[2:]) - 1}"
        assert field not in (await scene.member.get(path, v=before))["server"]
        shown = (await scene.member.get(path, v=version))["server"]
        known.add(field)
        assert set(shown) == known, version
    assert (await scene.member.get(path, v="2.47"))["server"]["flavor"]["original_name"] == "m1.tiny"
    [detail] = (await scene.member.get("/servers/detail?name=db_1", v="2.96"))["servers"]
    assert set(detail) == known - {"server_groups"}
    for_admins = set((await scene.admin.get(path, v="2.96"))["server"]) - known
    assert for_admins == {
        "host_status",
        *(f"OS-EXT-SRV-ATTR:{name}" for name in ("host", "hypervisor_hostname", "instance_name", "kernel_id")),
        *(f"OS-EXT-SRV-ATTR:{name}" for name in ("launch_index", "ramdisk_id", "reservation_id")),
        *(f"OS-EXT-SRV-ATTR:{name}" for name in ("root_device_name", "user_data")),
    }
    assert "OS-EXT-SRV-ATTR:hostname" not in (await scene.admin.get(path, v="2.2"))["server"]
    assert set((await scene.member.get("/servers?limit=1"))["servers"][0]) == {"id", "name", "links"}


async def test_a_page_costs_the_same_number_of_queries_however_long_it_is(scene: Scene, three: dict[str, str]) -> None:
    counts = [min([await _queries(scene, limit) for _ in range(3)]) for limit in (1, 3)]
    assert counts[0] == counts[1] <= 6


async def _queries(scene: Scene, limit: int) -> int:
    """How many a page takes; the cloud's background work may ask something meanwhile."""
    queries: list[str] = []

    def note(_connection, _cursor, statement, *_rest) -> None:  # type: ignore[no-untyped-def]
        if statement.startswith("SELECT"):
            queries.append(statement)

    engine = scene.bed.database._reader.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        await scene.member.get(f"/servers/detail?limit={limit}")
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return len(queries)


async def test_odd_names_are_found_by_their_characters(scene: Scene, three: dict[str, str]) -> None:
    for name in ("Web (1)", "g++", "x[y]z"):
        body = await scene.bed.server_body(name=name)
        server_id = (await scene.admin.post("/servers", body, status=202))["server"]["id"]
        assert await _names(scene, f"name={quote(name.lower())}", admin=True) == [name]
        await scene.bed.gone(scene.admin, server_id)
