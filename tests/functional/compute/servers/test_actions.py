"""`POST /servers/{id}/action`: power, rebuild, console output, what is refused; and the record of all that."""

import time
from typing import Any

import pytest
from sqlalchemy import select

from muster.base.ids import new_uuid
from muster.store.images import images
from muster.store.keypairs import keypairs
from muster.store.servers import servers

from ..administration.conftest import P1
from .conftest import Scene

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def _act(scene: Scene, server_id: str, body: Any, v: str | None = None, status: int = 202) -> Any:
    return await scene.member.post(f"/servers/{server_id}/action", body, v=v, status=status)


async def _refusal(scene: Scene, server_id: str, body: Any, v: str | None = None) -> tuple[int, str]:
    status, _, message = await scene.member.refusal("POST", f"/servers/{server_id}/action", body, v=v)
    return status, message


async def test_power(scene: Scene) -> None:
    server_id = await scene.server()
    assert (await _refusal(scene, server_id, {"os-start": None}))[0] == 409
    await _act(scene, server_id, {"os-stop": None})
    assert (await scene.until(server_id, "SHUTOFF"))["OS-EXT-STS:power_state"] == 4
    status, message = await _refusal(scene, server_id, {"os-stop": {}})
    assert (status, message) == (409, f"Cannot 'stop' instance {server_id} while it is in vm_state stopped")
    assert (await _refusal(scene, server_id, {"reboot": {"type": "SOFT"}}))[0] == 409
    await _act(scene, server_id, {"os-start": {}})
    await scene.until(server_id, "ACTIVE")
    for kind in ("SOFT", "hard"):
        await _act(scene, server_id, {"reboot": {"type": kind}})
        await scene.until(server_id, "ACTIVE")


@pytest.mark.parametrize(
    "body",
    [
        {"reboot": {"type": "gently"}},
        {"reboot": {}},
        {"reboot": None},
        {"reboot": {"type": "SOFT", "now": True}},
        {"rebuild": {}},
        {"rebuild": {"imageRef": "cirros"}},
        {"rebuild": None},
        {"os-getConsoleOutput": None},
        {"os-getConsoleOutput": {"length": -2}},
        {"os-getConsoleOutput": {"length": "x"}},
        {"os-getConsoleOutput": {"lines": 3}},
        {"addSecurityGroup": {}},
        {"addSecurityGroup": {"name": ""}},
        {"addSecurityGroup": {"name": "  "}},
        {"addSecurityGroup": {"name": "a", "b": 1}},
        {"removeSecurityGroup": None},
        {"frobnicate": None},
        {"x" * 5_000: None},
        {"os-stop": None, "os-start": None},
        {},
        [],
        "os-stop",
        None,
    ],
)
async def test_bad_actions(scene: Scene, body: Any) -> None:
    servers_there = (await scene.member.get("/servers?limit=1"))["servers"]
    server_id = servers_there[0]["id"] if servers_there else await scene.server()
    before = await scene.show(server_id)
    status, _ = await _refusal(scene, server_id, body, v="2.90")
    assert status == 400
    assert await scene.show(server_id) == before


NOT_OFFERED = (
    {"resize": {"flavorRef": "2"}},
    {"migrate": None},
    {"os-migrateLive": {"host": None, "block_migration": "auto"}},
    {"evacuate": {}},
    {"pause": None},
    {"suspend": None},
    {"shelve": None},
    {"rescue": None},
    {"createImage": {"name": "x"}},
    {"createBackup": {"name": "x", "backup_type": "daily", "rotation": 1}},
    {"changePassword": {"adminPass": "x"}},
    {"os-getVNCConsole": {"type": "novnc"}},
    {"addFloatingIp": {"address": "10.0.0.1"}},
)


@pytest.mark.parametrize("body", NOT_OFFERED)
async def test_what_is_not_offered_is_refused_by_name(scene: Scene, body: Any) -> None:
    server_id = await scene.server()
    [name] = body
    status, message = await _refusal(scene, server_id, body)
    assert status == 400
    assert f"This cloud does not offer the action {name}" in message
    status, _, _ = await scene.other.refusal("POST", f"/servers/{server_id}/action", body)
    assert status == 404


@pytest.mark.parametrize(
    "name", ["confirmResize", "revertResize", "unpause", "resume", "unshelve", "unrescue", "restore"]
)
async def test_what_ends_a_state_that_no_server_is_in(scene: Scene, name: str) -> None:
    servers_there = (await scene.member.get("/servers?limit=1"))["servers"]
    server_id = servers_there[0]["id"] if servers_there else await scene.server()
    status, message = await _refusal(scene, server_id, {name: None})
    assert status == 409
    assert f"Cannot '{name}' instance {server_id} while it is in vm_state " in message


async def test_force_delete(scene: Scene) -> None:
    server_id = await scene.server()
    await _act(scene, server_id, {"forceDelete": None})
    await scene.bed.gone(scene.member, server_id)


async def test_rebuild_with_all_it_takes(scene: Scene) -> None:
    server_id = await scene.server(name="old", metadata={"a": "1"}, user_data="YQ==")
    other_image = new_uuid()
    row = {
        "id": other_image,
        "owner": P1,
        "status": "active",
        "visibility": "public",
        "disk_format": "raw",
        "size": 5,
        "os_hash_algo": "sha512",
        "os_hash_value": "0" * 128,
        "created_at": time.time(),
        "updated_at": time.time(),
    }
    key = {"user_id": "alice", "name": "k", "public_key": "ssh-rsa AAAA", "fingerprint": "00", "created_at": 0.0}
    async with scene.bed.database.write() as connection:
        await connection.execute(images.insert(), [row])
        await connection.execute(keypairs.insert(), [key])
    rebuild = {
        "imageRef": other_image,
        "name": "new",
        "adminPass": "p",
        "metadata": {"b": "2"},
        "description": "d",
        "key_name": "k",
        "user_data": "Yg==",
        "hostname": "newname",
        "accessIPv4": "192.0.2.9",
        "preserve_ephemeral": False,
        "OS-DCF:diskConfig": "AUTO",
        "trusted_image_certificates": None,
    }
    answer = await scene.member.call("POST", f"/servers/{server_id}/action", {"rebuild": rebuild}, v="2.90")
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"].endswith(f"/v2.1/servers/{server_id}")
    shown = answer.json()["server"]
    assert (shown["adminPass"], shown["user_data"], shown["key_name"]) == ("p", "Yg==", "k")
    assert shown["status"] in ("REBUILD", "ACTIVE")
    server = await scene.until(server_id, "ACTIVE")
    assert (server["name"], server["metadata"], server["description"]) == ("new", {"b": "2"}, "d")
    assert server["image"]["id"] == other_image
    assert server["OS-EXT-SRV-ATTR:hostname"] == "newname"
    assert server["accessIPv4"] == "192.0.2.9"
    async with scene.bed.database.read() as connection:
        statement = select(servers.c.public_key).where(servers.c.id == server_id)
        assert (await connection.execute(statement)).scalar() == "ssh-rsa AAAA"
    # What is not named stays; null takes away.
    await _act(scene, server_id, {"rebuild": {"imageRef": other_image, "key_name": None, "user_data": None}}, v="2.57")
    server = await scene.until(server_id, "ACTIVE")
    assert (server["name"], server["key_name"], server["OS-EXT-SRV-ATTR:user_data"]) == ("new", None, None)


@pytest.mark.parametrize(
    ("version", "fields", "words"),
    [
        ("2.53", {"key_name": None}, "'key_name' was unexpected"),
        ("2.56", {"user_data": None}, "'user_data' was unexpected"),
        ("2.18", {"description": "d"}, "'description' was unexpected"),
        ("2.57", {"personality": []}, "'personality' was unexpected"),
        ("2.54", {"key_name": "nowhere"}, "Invalid key_name provided."),
        ("2.63", {"trusted_image_certificates": ["a"]}, "certificates"),
        ("2.1", {"personality": [{"path": "/x", "contents": "%"}]}, "base64"),
        ("2.1", {"imageRef": "11111111-2222-3333-4444-555555555555"}, "Can not find requested image"),
        ("2.57", {"user_data": "%"}, "base64"),
        ("2.1", {"metadata": {"a": 1}}, "metadata"),
        ("2.1", {"name": " "}, "name"),
    ],
)
async def test_bad_rebuilds(scene: Scene, version: str, fields: dict[str, Any], words: str) -> None:
    servers_there = (await scene.member.get("/servers?limit=1"))["servers"]
    server_id = servers_there[0]["id"] if servers_there else await scene.server()
    before = await scene.show(server_id)
    body = {"rebuild": {"imageRef": await scene.bed.image(), **fields}}
    status, message = await _refusal(scene, server_id, body, v=version)
    assert status == 400
    assert words in message
    assert await scene.show(server_id) == before


async def test_console_output(scene: Scene) -> None:
    server_id = await scene.server(name="talker")
    whole = (await _act(scene, server_id, {"os-getConsoleOutput": {}}, status=200))["output"]
    assert whole.endswith("talker login: ")
    everything = len(whole.splitlines())
    assert everything > 10
    for length, lines in ((1, 1), ("10", 10), (0, 0), (-1, everything), (None, everything), (10**30, everything)):
        answer = await _act(scene, server_id, {"os-getConsoleOutput": {"length": length}}, status=200)
        assert len(answer["output"].splitlines()) == lines, length


async def test_a_server_without_a_host_has_no_console(scene: Scene) -> None:
    huge = {"flavor": {"id": "huge", "name": "huge", "vcpus": 1_000, "ram": 128, "disk": 0}}  # larger than any host
    await scene.admin.post("/flavors", huge)
    body = await scene.bed.server_body(flavorRef="huge", name="homeless")
    made = await scene.admin.post("/servers", body, status=202)
    path = f"/servers/{made['server']['id']}"
    fault = (await scene.until(made["server"]["id"], "ERROR"))["fault"]
    assert fault["message"] == "No valid host was found. No host has enough processors left for this flavor."
    assert "processors 1000 of " in fault["details"]
    status, name, message = await scene.admin.refusal("POST", f"{path}/action", {"os-getConsoleOutput": {}})
    assert (status, name, "is not ready" in message) == (409, "conflictingRequest", True)
    assert (await scene.admin.refusal("GET", f"{path}/diagnostics"))[0] == 409


async def test_the_record_of_actions(scene: Scene) -> None:
    server_id = await scene.server()
    for body in ({"lock": None}, {"unlock": None}, {"os-stop": None}):
        await _act(scene, server_id, body)
    await scene.until(server_id, "SHUTOFF")
    path = f"/servers/{server_id}/os-instance-actions"
    found = (await scene.reader.get(path))["instanceActions"]
    assert [one["action"] for one in found] == ["stop", "unlock", "lock", "create"]
    assert "updated_at" not in found[0]
    found = (await scene.reader.get(path, v="2.58"))["instanceActions"]
    assert found[0]["updated_at"] >= found[0]["start_time"]
    page = await scene.reader.get(f"{path}?limit=2", v="2.58")
    assert [one["action"] for one in page["instanceActions"]] == ["stop", "unlock"]
    [link] = page["links"]
    marker = page["instanceActions"][1]["request_id"]
    assert link["href"].endswith(f"marker={marker}")
    rest = (await scene.reader.get(f"{path}?marker={marker}", v="2.58"))["instanceActions"]
    assert [one["action"] for one in rest] == ["lock", "create"]
    assert (await scene.reader.get(f"{path}?changes-since=2999-01-01T00:00:00Z", v="2.58"))["instanceActions"] == []
    until_now = await scene.reader.get(f"{path}?changes-before=2999-01-01T00:00:00Z", v="2.66")
    assert len(until_now["instanceActions"]) == 4
    for query in ("marker=req-x", "limit=-1", "limit=x", "changes-since=then", "colour=red", "limit=1&limit=2"):
        assert (await scene.reader.refusal("GET", f"{path}?{query}", v="2.66"))[0] == 400, query
    assert (await scene.reader.refusal("GET", f"{path}?changes-before=2999-01-01T00:00:00Z", v="2.58"))[0] == 400

    answer = await scene.member.call("POST", f"/servers/{server_id}/action", {"lock": None})
    assert answer.headers["X-Compute-Request-Id"] == answer.headers["X-Openstack-Request-Id"]
    newest = (await scene.reader.get(f"{path}?limit=1", v="2.58"))["instanceActions"]
    assert newest[0]["request_id"] == answer.headers["X-Compute-Request-Id"]
    await _act(scene, server_id, {"unlock": None})

    stop = found[0]["request_id"]
    assert "events" not in (await scene.reader.get(f"{path}/{stop}"))["instanceAction"]
    [event] = (await scene.reader.get(f"{path}/{stop}", v="2.84"))["instanceAction"]["events"]
    assert event["event"] == "compute_stop_instance"
    assert event["result"] == "Success"
    assert event["finish_time"] >= event["start_time"]
    assert event["details"] is None
    assert len(event["hostId"]) == 56
    assert not {"host", "traceback"} & set(event)
    [event] = (await scene.admin.get(f"{path}/{stop}", v="2.84"))["instanceAction"]["events"]
    assert event["host"].startswith("sim-")
    assert event["traceback"] is None
    assert (await scene.reader.refusal("GET", f"{path}/req-nothing"))[0] == 404
    await scene.bed.gone(scene.member, server_id)
    assert (await scene.reader.refusal("GET", path))[0] == 404
    found = (await scene.reader.get(path, v="2.21"))["instanceActions"]
    assert found[0]["action"] == "delete"
    assert (await scene.other.refusal("GET", path, v="2.21"))[0] == 404


async def test_what_there_is_nothing_of(scene: Scene) -> None:
    server_id = await scene.server()
    path = f"/servers/{server_id}"
    assert await scene.reader.get(f"{path}/os-server-password") == {"password": ""}
    await scene.member.delete(f"{path}/os-server-password", status=204)
    assert await scene.reader.get(f"{path}/os-volume_attachments") == {"volumeAttachments": []}
    body = {"remote_console": {"protocol": "vnc", "type": "novnc"}}
    assert (await scene.member.refusal("POST", f"{path}/remote-consoles", body, v="2.6"))[0] == 400
