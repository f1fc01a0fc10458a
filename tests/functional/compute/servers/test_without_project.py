"""An administrator whose token is scoped to no project, but to the system or a domain: sees all, owns nothing."""

import pytest

from .conftest import Scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

_WORDS = "You are not authorized to perform the requested action: the token is not scoped to a project."


async def test_nothing_is_made_in_no_project(scene: Scene) -> None:
    boss = scene.bed.client("admin@/boss")
    before = await scene.count()
    refusal = (403, "forbidden", _WORDS)
    assert await boss.refusal("POST", "/servers", await scene.bed.server_body()) == refusal
    group = {"server_group": {"name": "g", "policies": ["affinity"]}}
    assert await boss.refusal("POST", "/os-server-groups", group) == refusal
    assert await scene.count() == before


async def test_own_things_are_asked_for_in_a_project(scene: Scene) -> None:
    boss = scene.bed.client("admin@/boss")
    for path in ("/servers", "/servers/detail", "/os-server-groups", "/limits"):
        assert await boss.refusal("GET", path) == (403, "forbidden", _WORDS), path
    server_id = await scene.server(name="seen")
    everything = (await boss.get("/servers?all_tenants=1&name=seen"))["servers"]
    assert [one["id"] for one in everything] == [server_id]
    assert (await boss.get(f"/servers/{server_id}"))["server"]["name"] == "seen"
    assert (await boss.get("/os-server-groups?all_projects=1"))["server_groups"] == []
