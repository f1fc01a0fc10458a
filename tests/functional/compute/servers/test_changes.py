"""What is changed of servers: names, metadata, tags, locks, states; by whom, when, and with which answers."""

from typing import Any

import pytest
from sqlalchemy import select, update

from muster.store.servers import servers

from .conftest import Scene

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def _generation(scene: Scene, server_id: str) -> int:
    async with scene.bed.database.read() as connection:
        statement = select(servers.c.generation).where(servers.c.id == server_id)
        return int((await connection.execute(statement)).scalar_one())


async def _in_state(scene: Scene, server_id: str, **values: Any) -> None:
    async with scene.bed.database.write() as connection:
        await connection.execute(update(servers).where(servers.c.id == server_id).values(**values))


async def test_update_by_microversion(scene: Scene) -> None:
    server_id = await scene.server()
    before = await _generation(scene, server_id)
    body = {"server": {"name": "new", "accessIPv4": "192.0.2.7", "OS-DCF:diskConfig": "AUTO"}}
    shown = (await scene.member.put(f"/servers/{server_id}", body))["server"]
    assert (shown["name"], shown["accessIPv4"], shown["OS-DCF:diskConfig"]) == ("new", "192.0.2.7", "AUTO")
    assert "OS-EXT-STS:vm_state" not in shown
    assert "OS-EXT-IPS:type" not in next(iter(shown["addresses"].values()))[0]
    assert await _generation(scene, server_id) == before + 1  # the guest's metadata shows the name
    body = {"server": {"description": "d", "hostname": "other-name"}}
    shown = (await scene.member.put(f"/servers/{server_id}", body, v="2.90"))["server"]
    assert (shown["description"], shown["OS-EXT-SRV-ATTR:hostname"]) == ("d", "other-name")
    assert shown["OS-EXT-STS:vm_state"] == "active"
    assert shown["server_groups"] == []
    shown = (await scene.member.put(f"/servers/{server_id}", {"server": {"description": None}}, v="2.19"))["server"]
    assert shown["description"] is None
    assert (await scene.member.put(f"/servers/{server_id}", {"server": {}}))["server"]["name"] == "new"


@pytest.mark.parametrize(
    ("version", "fields"),
    [
        ("2.1", {"name": ""}),
        ("2.1", {"name": " "}),
        ("2.1", {"description": "x"}),
        ("2.89", {"hostname": "ab"}),
        ("2.90", {"hostname": "-ab"}),
        ("2.93", {"hostname": "ab.example"}),
        ("2.93", {"hostname": "a" * 64}),
        ("2.94", {"hostname": ".example"}),
        ("2.94", {"hostname": "a" * 256}),
        ("2.1", {"accessIPv4": "1.2.3"}),
        ("2.1", {"metadata": {}}),
        ("2.1", {"status": "ACTIVE"}),
        ("2.1", []),
        ("2.1", None),
    ],
)
async def test_bad_updates(scene: Scene, version: str, fields: Any) -> None:
    server_id = (await scene.create(networks=[{"uuid": await scene.bed.network()}]))["id"]
    before = (await scene.show(await scene.active(server_id)))["name"]
    status, _, _ = await scene.member.refusal("PUT", f"/servers/{server_id}", {"server": fields}, v=version)
    assert status == 400
    assert (await scene.show(server_id))["name"] == before


async def test_metadata(scene: Scene) -> None:
    server_id = await scene.server(metadata={"a": "1"})
    path = f"/servers/{server_id}/metadata"
    assert (await scene.reader.get(path))["metadata"] == {"a": "1"}
    assert (await scene.member.post(path, {"metadata": {"b": "2"}}))["metadata"] == {"a": "1", "b": "2"}
    assert (await scene.member.put(path, {"metadata": {"c": "3"}}))["metadata"] == {"c": "3"}
    assert (await scene.member.put(f"{path}/d e", {"meta": {"d e": "4"}}))["meta"] == {"d e": "4"}
    assert (await scene.reader.get(f"{path}/d e"))["meta"] == {"d e": "4"}
    await scene.member.delete(f"{path}/c", status=204)
    assert (await scene.reader.get(path))["metadata"] == {"d e": "4"}
    for method, where, body, status in (
        ("GET", "/c", None, 404),
        ("DELETE", "/c", None, 404),
        ("PUT", "/c", {"meta": {"d": "1"}}, 400),
        ("PUT", "/c", {"meta": {"c": "1", "d": "1"}}, 400),
        ("PUT", "/c", {"meta": {}}, 400),
        ("PUT", "/c", {"metadata": {"c": "1"}}, 400),
        ("POST", "", {"metadata": {"c": None}}, 400),
        ("POST", "", {"metadata": {"c": "x" * 256}}, 400),
        ("POST", "", {"metadata": {"x" * 256: "c"}}, 400),
        ("POST", "", {"metadata": {"a/b": "c"}}, 400),
        ("POST", "", {"metadata": {str(n): "x" for n in range(129)}}, 403),
        ("PUT", "", {"meta": {}}, 400),
        ("PUT", "", {"metadata": []}, 400),
    ):
        got, _, message = await scene.member.refusal(method, path + where, body)
        assert got == status, (method, where, body, message)
    assert (await scene.reader.get(path))["metadata"] == {"d e": "4"}


async def test_tags(scene: Scene) -> None:
    server_id = await scene.server()
    path, v = f"/servers/{server_id}/tags", "2.26"
    assert (await scene.reader.get(path, v=v))["tags"] == []
    response = await scene.member.call("PUT", f"{path}/red", v=v)
    assert response.status_code == 201
    assert response.headers["Location"].endswith(f"/v2.1/servers/{server_id}/tags/red")
    assert (await scene.member.call("PUT", f"{path}/red", v=v)).status_code == 204
    assert (await scene.reader.call("GET", f"{path}/red", v=v)).status_code == 204
    assert (await scene.member.put(path, {"tags": ["b", "a", "a"]}, v=v))["tags"] == ["a", "b"]
    await scene.member.delete(f"{path}/a", v=v, status=204)
    for method, where, body, status in (
        ("GET", "/red", None, 404),
        ("DELETE", "/red", None, 404),
        ("PUT", "/" + "x" * 61, None, 400),
        ("PUT", "/a,b", None, 400),
        ("PUT", "", {"tags": ["a,b"]}, 400),
        ("PUT", "", {"tags": [""]}, 400),
        ("PUT", "", {"tags": [5]}, 400),
        ("PUT", "", {"tags": [str(n) for n in range(51)]}, 400),
        ("PUT", "", {}, 400),
    ):
        got, _, message = await scene.member.refusal(method, path + where, body, v=v)
        assert got == status, (method, where, body, message)
    await scene.member.put(path, {"tags": [str(n) for n in range(50)]}, v=v)
    assert (await scene.member.refusal("PUT", f"{path}/one-too-many", v=v))[0] == 400
    await scene.member.delete(path, v=v, status=204)
    assert (await scene.reader.get(path, v=v))["tags"] == []
    assert (await scene.reader.call("GET", path, v="2.25")).status_code == 404


CHANGES: list[tuple[str, str, Any]] = [
    ("PUT", "", {"server": {"name": "x"}}),
    ("DELETE", "", None),
    ("PUT", "/metadata", {"metadata": {}}),
    ("POST", "/metadata", {"metadata": {"a": "b"}}),
    ("PUT", "/metadata/a", {"meta": {"a": "b"}}),
    ("DELETE", "/metadata/a", None),
    ("PUT", "/tags", {"tags": ["x"]}),
    ("PUT", "/tags/x", None),
    ("DELETE", "/tags/a", None),
    ("DELETE", "/tags", None),
    ("POST", "/os-interface", {"interfaceAttachment": {"net_id": "{network}"}}),
    ("DELETE", "/os-interface/{port}", None),
    ("POST", "/action", {"os-stop": None}),
    ("POST", "/action", {"os-start": None}),
    ("POST", "/action", {"reboot": {"type": "SOFT"}}),
    ("POST", "/action", {"reboot": {"type": "HARD"}}),
    ("POST", "/action", {"rebuild": {"imageRef": "{image}"}}),
    ("POST", "/action", {"addSecurityGroup": {"name": "default"}}),
    ("POST", "/action", {"removeSecurityGroup": {"name": "default"}}),
]


async def test_a_locked_server_changes_for_admins_alone(scene: Scene) -> None:
    server_id = await scene.server(
        "2.52", tags=["a"], metadata={"a": "1"}, networks=[{"uuid": await scene.bed.network()}]
    )
    await scene.member.post(f"/servers/{server_id}/action", {"lock": {"locked_reason": "care"}}, v="2.73", status=202)
    shown = await scene.show(server_id)
    assert (shown["locked"], shown["locked_reason"]) == (True, "care")
    for method, where, body in CHANGES:
        await _expect_conflict(scene, server_id, method, where, body, "is locked")
    assert await scene.show(server_id) == shown
    await scene.admin.post(f"/servers/{server_id}/metadata", {"metadata": {"b": "2"}})
    await scene.member.post(f"/servers/{server_id}/action", {"unlock": None}, status=202)
    assert not (await scene.show(server_id))["locked"]
    await scene.member.post(f"/servers/{server_id}/metadata", {"metadata": {"c": "3"}})


async def test_who_may_unlock(scene: Scene) -> None:
    server_id = await scene.server()
    await scene.admin.post(f"/servers/{server_id}/action", {"lock": None}, status=202)
    await scene.member.post(f"/servers/{server_id}/action", {"lock": None}, status=202)  # leaves the admin's lock
    status, name, _ = await scene.member.refusal("POST", f"/servers/{server_id}/action", {"unlock": None})
    assert (status, name) == (403, "forbidden")
    assert (await scene.show(server_id))["locked"]
    await scene.admin.post(f"/servers/{server_id}/action", {"unlock": None}, status=202)
    for body in ({"lock": {"reason": "x"}}, {"lock": {"locked_reason": ""}}, {"lock": "x"}):
        assert (await scene.member.refusal("POST", f"/servers/{server_id}/action", body, v="2.73"))[0] == 400
    await scene.member.post(f"/servers/{server_id}/action", {"lock": "whatever"}, v="2.72", status=202)


async def test_a_server_with_a_task_refuses(scene: Scene) -> None:
    server_id = await scene.server(
        "2.52", tags=["a"], metadata={"a": "1"}, networks=[{"uuid": await scene.bed.network()}]
    )
    await _in_state(scene, server_id, task_state="deleting")
    free = {"PUT ", "DELETE ", "PUT /tags", "PUT /tags/x", "DELETE /tags/a", "DELETE /tags"}
    for method, where, body in CHANGES:
        if f"{method} {where}" in free or "SecurityGroup" in str(body):
            continue
        words = "task_state deleting" if "os-start" not in str(body) else "vm_state active"
        await _expect_conflict(scene, server_id, method, where, body, words)
    await _in_state(scene, server_id, task_state=None)


async def test_a_server_being_built_refuses(scene: Scene) -> None:
    server_id = await scene.server(
        "2.52", tags=["a"], metadata={"a": "1"}, networks=[{"uuid": await scene.bed.network()}]
    )
    await _in_state(scene, server_id, vm_state="building", task_state="spawning")
    free = {"PUT ", "DELETE "}
    for method, where, body in CHANGES:
        if f"{method} {where}" not in free and "SecurityGroup" not in str(body):
            await _expect_conflict(scene, server_id, method, where, body, "vm_state building")
    await _in_state(scene, server_id, vm_state="active", task_state=None)


async def test_a_host_is_told_of_a_network_again(scene: Scene) -> None:
    server_id = await scene.server()
    path = f"/servers/{server_id}/action"
    before = await _generation(scene, server_id)
    for done, action in enumerate(("injectNetworkInfo", "resetNetwork"), 1):
        assert (await scene.member.refusal("POST", path, {action: None}))[0] == 403
        await scene.admin.post(path, {action: None}, status=202)
        assert await _generation(scene, server_id) == before + done
        assert (await scene.admin.refusal("POST", "/servers/none/action", {action: None}))[0] == 404
    assert (await scene.show(server_id))["status"] == "ACTIVE"


async def test_a_host_is_not_told_of_the_network_of_what_failed(scene: Scene) -> None:
    server_id = await scene.server()
    path = f"/servers/{server_id}/action"
    before = await _generation(scene, server_id)
    await _in_state(scene, server_id, vm_state="error")
    await scene.admin.post(path, {"injectNetworkInfo": None}, status=202)
    assert await _generation(scene, server_id) == before  # its host would try again


async def test_reset_state(scene: Scene) -> None:
    server_id = await scene.server()
    path = f"/servers/{server_id}/action"
    assert (await scene.member.refusal("POST", path, {"os-resetState": {"state": "error"}}))[0] == 403
    assert (await scene.admin.refusal("POST", path, {"os-resetState": {"state": "paused"}}))[0] == 400
    await scene.admin.post(path, {"os-resetState": {"state": "error"}}, status=202)
    shown = await scene.show(server_id)
    assert shown["status"] == "ERROR"
    assert shown["fault"]["code"] == 500
    assert "progress" not in shown
    await scene.admin.post(path, {"os-resetState": {"state": "active"}}, status=202)
    shown = await scene.show(server_id)
    assert shown["status"] == "ACTIVE"
    assert "fault" not in shown


async def test_details_of_a_fault_are_the_operators(scene: Scene) -> None:
    server_id = await scene.server()
    values = {"vm_state": "error", "fault_code": 500, "fault_message": "no", "fault_details": "why", "fault_at": 1.0}
    await _in_state(scene, server_id, **values)
    assert "details" not in (await scene.show(server_id))["fault"]
    fault = (await scene.admin.get(f"/servers/{server_id}"))["server"]["fault"]
    assert fault == {"code": 500, "message": "no", "details": "why", "created": "1970-01-01T00:00:01Z"}


async def test_a_strangers_server_is_not_found(scene: Scene) -> None:
    server_id = await scene.server(
        "2.52", tags=["a"], metadata={"a": "1"}, networks=[{"uuid": await scene.bed.network()}]
    )
    for method, where, body in CHANGES:
        url, content = await _filled(scene, server_id, where, body)
        got, _, message = await scene.other.refusal(method, url, content, v="2.90")
        assert (got, "could not be found" in message) == (404, True), (method, where, body, message)
    assert (await scene.show(server_id))["tags"] == ["a"]


async def _filled(scene: Scene, server_id: str, where: str, body: Any) -> tuple[str, Any]:
    [interface] = (await scene.member.get(f"/servers/{server_id}/os-interface"))["interfaceAttachments"]
    text = {"{port}": interface["port_id"], "{network}": interface["net_id"], "{image}": await scene.bed.image()}

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: filled(item) for name, item in value.items()}
        return text.get(value, value) if isinstance(value, str) else value

    return f"/servers/{server_id}{where}".replace("{port}", interface["port_id"]), filled(body)


async def _expect_conflict(scene: Scene, server_id: str, method: str, where: str, body: Any, words: str) -> None:
    url, content = await _filled(scene, server_id, where, body)
    got, name, message = await scene.member.refusal(method, url, content, v="2.90")
    assert (got, name) == (409, "conflictingRequest"), (method, where, body, message)
    assert words in message, (method, where, body, message)
