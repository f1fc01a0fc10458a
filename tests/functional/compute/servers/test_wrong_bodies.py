"""Hundreds of wrong bodies to everything that takes one of servers: refused with Nova's error, and nothing has changed.

Each is a valid body with one place made wrong, drawn by a seed that a failure names.
"""

import json
from random import Random
from typing import Any

import pytest
from sqlalchemy import func, select

from muster.store.instance_actions import instance_actions
from muster.store.ports import ports
from muster.store.servers import server_tags, servers

from ...sweep.mutations import mutations
from .conftest import Scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

SEED = 20261127
N_BODIES = 900
VERSIONS = ("2.1", "2.37", "2.52", "2.74", "2.90", "2.96")


async def _samples(scene: Scene, server_id: str) -> list[tuple[str, str, Any]]:
    image_id, network_id = await scene.bed.image(), await scene.bed.network()
    port_id = await scene.port(network_id)
    new = {
        "name": "n",
        "flavorRef": "guest.tiny",
        "imageRef": image_id,
        "networks": [{"uuid": network_id}],
        "metadata": {"a": "b"},
        "user_data": "YQ==",
        "config_drive": True,
        "security_groups": [{"name": "default"}],
        "min_count": 1,
        "max_count": 1,
        "return_reservation_id": False,
        "accessIPv4": "192.0.2.1",
        "accessIPv6": "::1",
        "adminPass": "p",
        "availability_zone": "nova",
        "OS-DCF:diskConfig": "AUTO",
        "block_device_mapping_v2": [
            {"uuid": image_id, "boot_index": 0, "source_type": "image", "destination_type": "local"}
        ],
    }
    newest = {**new, "description": "d", "tags": ["t"], "hostname": "hh", "trusted_image_certificates": None}
    with_files = {**new, "personality": [{"path": "/etc/motd", "contents": "YQ=="}]}
    rebuild = {"imageRef": image_id, "name": "r", "metadata": {"a": "b"}, "preserve_ephemeral": False}
    server = f"/servers/{server_id}"
    return [
        ("POST", "/servers", {"server": new}),
        ("POST", "/servers", {"server": with_files}),
        ("POST", "/servers", {"server": newest, "os:scheduler_hints": {"group": None}}),
        ("PUT", server, {"server": {"name": "n", "accessIPv4": "192.0.2.1", "accessIPv6": "::1"}}),
        ("PUT", f"{server}/metadata", {"metadata": {"a": "b"}}),
        ("POST", f"{server}/metadata", {"metadata": {"a": "b"}}),
        ("PUT", f"{server}/metadata/a", {"meta": {"a": "b"}}),
        ("PUT", f"{server}/tags", {"tags": ["a", "b"]}),
        ("POST", f"{server}/os-interface", {"interfaceAttachment": {"port_id": port_id}}),
        ("POST", f"{server}/os-interface", {"interfaceAttachment": {"net_id": network_id, "fixed_ips": [{}]}}),
        ("POST", f"{server}/action", {"reboot": {"type": "SOFT"}}),
        ("POST", f"{server}/action", {"rebuild": rebuild}),
        ("POST", f"{server}/action", {"lock": {"locked_reason": "r"}}),
        ("POST", f"{server}/action", {"os-getConsoleOutput": {"length": 5}}),
        ("POST", f"{server}/action", {"os-resetState": {"state": "active"}}),
        ("POST", f"{server}/action", {"addSecurityGroup": {"name": "default"}}),
        ("POST", f"{server}/action", {"removeSecurityGroup": {"name": "nowhere"}}),
        ("POST", f"{server}/action", {"addFixedIp": {"networkId": network_id}}),
        ("POST", f"{server}/action", {"removeFixedIp": {"address": "192.0.2.1"}}),
    ]


async def _counts(scene: Scene) -> tuple[Any, ...]:
    statement = select(
        *(select(func.count()).select_from(table).scalar_subquery() for table in (servers, ports, server_tags)),
        select(func.count()).where(instance_actions.c.action != "").scalar_subquery(),
        select(func.sum(servers.c.generation)).scalar_subquery(),
    )
    async with scene.bed.database.read() as connection:
        return tuple((await connection.execute(statement)).one())


async def test_wrong_bodies(scene: Scene) -> None:
    rng = Random(SEED)
    server_id = await scene.server()
    samples = await _samples(scene, server_id)
    wrong = [(method, path, bad) for method, path, body in samples for bad in mutations(body)]
    refused = 0
    for method, path, bad in rng.sample(wrong, N_BODIES):
        version, before = rng.choice(VERSIONS), await _counts(scene)
        content = json.dumps(bad).encode()
        response = await scene.admin.call(method, path, content, v=version)
        said = (SEED, method, path, version, content[:300], response.status_code, response.text[:300])
        assert response.status_code < 500, said
        if response.status_code >= 400:
            refused += 1
            [(_, fault)] = response.json().items()
            assert fault["code"] == response.status_code, said
            assert fault["message"], said
            assert len(response.content) < 3_000, said  # what was sent is not sent back
            assert await _counts(scene) == before, said
    assert refused > N_BODIES / 2


RAW: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "not UTF-8": b'{"server": {"name": "\xff"}}',
    "a lone surrogate": rb'{"server": {"name": "a\ud800b"}}',
    "a lone low surrogate": rb'{"server": {"name": "a\udc00b"}}',
    "a raw NUL": b'{"server": {"name": "\x00"}}',
    "deep nesting": b'{"server": ' + b"[" * 100_000,
    "deep but whole": b'{"server": {"name": "a", "x": ' + b"[" * 900 + b"]" * 900 + b"}}",
    "deep NUL": rb'{"a": "\u0000", "server": ' + b"[" * 900 + b"]" * 900 + b"}",
    "a huge number": b'{"server": {"name": "a", "min_count": ' + b"9" * 5_000 + b"}}",
    "a number beyond all bounds": b'{"server": {"name": "a", "min_count": 1e999}}',
}


@pytest.mark.parametrize("case", RAW)
async def test_what_is_no_document(scene: Scene, case: str) -> None:
    server_id = "11111111-2222-3333-4444-555555555555"
    paths = ("", "/metadata", "/metadata/a", "/tags")
    routes = [("POST", "/servers"), *(("PUT", f"/servers/{server_id}{path}") for path in paths)]
    for method, path in [
        *routes,
        ("POST", f"/servers/{server_id}/action"),
        ("POST", f"/servers/{server_id}/os-interface"),
    ]:
        response = await scene.member.call(method, path, RAW[case], v="2.90")
        # The name of an action is read first, and whose server it is.
        unknown = path.endswith("/action") and response.status_code == 404
        assert response.status_code == 400 or unknown, (method, path, response.text)
        assert set(response.json()) == {"itemNotFound" if unknown else "badRequest"}


async def test_a_huge_body(scene: Scene) -> None:
    body = json.dumps({"server": {"name": "a", "x": "y" * 2_000_000}}).encode()
    response = await scene.member.call("POST", "/servers", body)
    assert response.status_code == 413
    assert response.json()["overLimit"]["code"] == 413


@pytest.mark.parametrize("server_id", ["x", "%00", "%ff", "%ed%a0%80", "x" * 5_000, "a%2Fb", "💥"])
async def test_ids_that_are_none(scene: Scene, server_id: str) -> None:
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/metadata"),
        ("GET", "/os-interface/x"),
        ("DELETE", "/os-interface/%00"),
        ("GET", "/tags/%00"),
        ("DELETE", "/tags/%00"),
        ("GET", "/metadata/%00"),
        ("GET", "/ips/%00"),
        ("GET", "/os-instance-actions/%00"),
    ):
        assert (await scene.member.refusal(method, f"/servers/{server_id}{path}", v="2.90"))[0] == 404
