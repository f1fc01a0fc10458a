"""Tokens: how one is got, what it shows, and when it ends."""

import pytest

from .world import ADMIN_PASSWORD, Admin, World


async def test_password_by_name_gives_a_token_with_scope_roles_and_catalog(world: World) -> None:
    user = {"name": "admin", "domain": {"name": "Default"}, "password": ADMIN_PASSWORD}
    response = await world.authenticate(
        {"methods": ["password"], "password": {"user": user}},
        {"project": {"name": "admin", "domain": {"id": "default"}}},
    )

    assert response.status_code == 201
    token = response.json()["token"]
    assert token["methods"] == ["password"]
    assert token["user"] == {
        "id": world.ids.admin_user_id,
        "name": "admin",
        "domain": {"id": "default", "name": "Default"},
        "password_expires_at": None,
    }
    assert token["project"] == {
        "id": world.ids.admin_project_id,
        "name": "admin",
        "domain": {"id": "default", "name": "Default"},
    }
    assert [role["name"] for role in token["roles"]] == ["admin", "manager", "member", "reader"]
    assert len(token["audit_ids"]) == 1
    catalog = {service["type"]: service for service in token["catalog"]}
    assert set(catalog) == {"identity", "compute", "network", "image"}
    assert {one["interface"] for one in catalog["compute"]["endpoints"]} == {"public", "internal", "admin"}
    assert {one["url"] for one in catalog["compute"]["endpoints"]} == {"http://cloud:8774/compute/v2.1"}
    assert {one["region_id"] for one in catalog["compute"]["endpoints"]} == {"RegionOne"}


async def test_nocatalog_leaves_the_catalog_out(world: World) -> None:
    token = await world.admin_token()
    headers = {"X-Auth-Token": token, "X-Subject-Token": token}

    whole = await world.http.get("/identity/v3/auth/tokens", headers=headers)
    short = await world.http.get("/identity/v3/auth/tokens?nocatalog", headers=headers)

    assert "catalog" in whole.json()["token"]
    assert "catalog" not in short.json()["token"]
    assert whole.headers["X-Subject-Token"] == token


@pytest.mark.parametrize(
    ("scope", "key"),
    [
        ({"system": {"all": True}}, "system"),
        ({"unscoped": {}}, None),
        ("unscoped", None),
        (None, "project"),  # the default project
    ],
)
async def test_scopes(world: World, scope: object, key: str | None) -> None:
    token = (await world.log_in(world.ids.admin_user_id, ADMIN_PASSWORD, scope)).json()["token"]

    assert {"project", "domain", "system"} & set(token) == ({key} if key else set())
    assert ("roles" in token) == ("catalog" in token) == (key is not None)


async def test_domain_scope_needs_a_role_on_the_domain(world: World, admin: Admin) -> None:
    scope = {"domain": {"name": "Default"}}
    assert (await world.log_in(world.ids.admin_user_id, ADMIN_PASSWORD, scope)).status_code == 401

    role = world.ids.role_ids["reader"]
    await admin.call("PUT", f"/domains/default/users/{world.ids.admin_user_id}/roles/{role}")

    token = (await world.log_in(world.ids.admin_user_id, ADMIN_PASSWORD, scope)).json()["token"]
    assert token["domain"] == {"id": "default", "name": "Default"}
    assert [one["name"] for one in token["roles"]] == ["reader"]


async def test_every_refusal_says_the_same(world: World, admin: Admin) -> None:
    alice = await admin.user("alice")
    off = await admin.user("off", enabled=False)
    nobody = {"name": "nobody", "domain": {"id": "default"}, "password": "x"}
    refused = [
        await world.log_in(alice.id, "wrong"),
        await world.log_in("0" * 32, "x"),
        await world.log_in(off.id, off.password),
        await world.log_in(alice.id, "x" * 5_000),
        await world.log_in(alice.id, alice.password, {"project": {"id": world.ids.admin_project_id}}),
        await world.log_in(alice.id, alice.password, {"project": {"id": "0" * 32}}),
        await world.log_in(alice.id, alice.password, {"system": {"all": True}}),
        await world.authenticate({"methods": ["password"], "password": {"user": nobody}}),
        await world.authenticate({"methods": ["token"], "token": {"id": "gAAAA-nonsense"}}),
    ]

    assert {response.status_code for response in refused} == {401}
    assert {response.text for response in refused} == {refused[0].text}
    assert refused[0].json()["error"] == {
        "code": 401,
        "message": "The request you have made requires authentication.",
        "title": "Unauthorized",
    }


async def test_a_user_without_a_password_cannot_log_in(world: World, admin: Admin) -> None:
    alice = await admin.user("alice", password=None)

    for guess in ("", "None", "alice's password"):
        assert (await world.log_in(alice.id, guess)).status_code == 401


async def test_rescoping_keeps_the_expiry_and_the_chain(world: World, admin: Admin) -> None:
    alice = await admin.user("alice")
    project = await admin.project("demo")
    await admin.grant("member", alice.id, project)
    first = await world.log_in(alice.id, alice.password, {"unscoped": {}})
    world.offset_s = 100

    identity = {"methods": ["token"], "token": {"id": first.headers["X-Subject-Token"]}}
    second = await world.authenticate(identity, {"project": {"id": project}})

    old, new = first.json()["token"], second.json()["token"]
    assert new["methods"] == ["password", "token"]
    assert new["expires_at"] == old["expires_at"]
    assert new["audit_ids"][1] == old["audit_ids"][0]
    assert new["project"]["id"] == project


async def test_a_token_expires(world: World) -> None:
    token = await world.admin_token()
    world.offset_s = 3_599
    assert await world.is_valid(token)
    world.offset_s = 3_601
    assert not await world.is_valid(token)


async def test_deleting_a_token_ends_it_alone_and_at_once(world: World, admin: Admin) -> None:
    alice = await admin.user("alice")
    one, other = await alice.token(), await alice.token()
    headers = {"X-Auth-Token": one, "X-Subject-Token": one}

    assert (await world.http.delete("/identity/v3/auth/tokens", headers=headers)).status_code == 204

    assert not await world.is_valid(one)
    assert await world.is_valid(other)
    check = {"X-Auth-Token": admin.token, "X-Subject-Token": one}
    assert (await world.http.get("/identity/v3/auth/tokens", headers=check)).status_code == 404
    assert (await world.http.head("/identity/v3/auth/tokens", headers=check)).status_code == 404
    identity = {"methods": ["token"], "token": {"id": one}}
    assert (await world.authenticate(identity)).status_code == 401


async def test_only_its_bearer_and_admins_see_a_token(world: World, admin: Admin) -> None:
    alice, bob = await admin.user("alice"), await admin.user("bob")
    a, b = await alice.token(), await bob.token()

    async def ask(method: str, who: str, subject: str) -> int:
        headers = {"X-Auth-Token": who, "X-Subject-Token": subject}
        return (await world.http.request(method, "/identity/v3/auth/tokens", headers=headers)).status_code

    assert await ask("GET", a, a) == 200
    assert await ask("GET", admin.token, a) == 200
    assert await ask("GET", b, a) == 403
    assert await ask("DELETE", b, a) == 403
    assert await world.is_valid(a)
    assert (await world.call("GET", "/auth/tokens", token=a)).status_code == 404  # no subject


async def test_what_a_user_can_reach(world: World, admin: Admin) -> None:
    alice = await admin.user("alice")
    project, closed = await admin.project("open"), await admin.project("closed")
    for one in (project, closed):
        await admin.grant("member", alice.id, one)
    await admin.call("PATCH", f"/projects/{closed}", {"project": {"enabled": False}})
    token = await alice.token()

    assert [one["id"] for one in (await world.call("GET", "/auth/projects", token=token)).json()["projects"]] == [
        project
    ]
    own = (await world.call("GET", f"/users/{alice.id}/projects", token=token)).json()["projects"]
    assert {one["id"] for one in own} == {project, closed}
    assert (await world.call("GET", "/auth/domains", token=token)).json()["domains"] == []
    assert (await world.call("GET", "/auth/system", token=token)).json()["system"] == []
    assert (await world.call("GET", "/auth/system", token=admin.token)).json()["system"] == [{"all": True}]
    assert (await world.call("GET", "/auth/catalog", token=token)).status_code == 403
    scoped = await alice.token(project)
    assert len((await world.call("GET", "/auth/catalog", token=scoped)).json()["catalog"]) == 4


async def test_multi_factor_rules_are_obeyed(world: World, admin: Admin) -> None:
    rules = [["password", "application_credential"], ["password", "no-such-method"]]
    alice = await admin.user("alice", options={"multi_factor_auth_enabled": True, "multi_factor_auth_rules": rules})

    assert (await world.log_in(alice.id, alice.password)).status_code == 401
    off = {"user": {"options": {"multi_factor_auth_enabled": None}}}
    await admin.call("PATCH", f"/users/{alice.id}", off)
    assert (await world.log_in(alice.id, alice.password)).status_code == 201


async def test_version_discovery(world: World) -> None:
    root = await world.http.get("/identity/")
    assert root.status_code == 300
    version = root.json()["versions"]["values"][0]
    assert version["links"] == [{"rel": "self", "href": "http://cloud:8774/identity/v3/"}]
    for path in ("/identity/v3", "/identity/v3/"):
        response = await world.http.get(path)
        assert response.status_code == 200
        assert response.json()["version"] == version
