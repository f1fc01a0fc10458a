"""Bad input: a clear 4xx in Keystone's body, and nothing has changed."""

import json
from typing import Any

import pytest

from .world import Admin, World

DEEP = "[" * 100_000
BAD_BODIES: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "no key": b"{}",
    "null": b'{"user": null}',
    "a text": b'{"user": "x"}',
    "no name": b'{"user": {}}',
    "a number for a name": b'{"user": {"name": 5}}',
    "null for a name": b'{"user": {"name": null}}',
    "an empty name": b'{"user": {"name": ""}}',
    "a blank name": b'{"user": {"name": "  "}}',
    "a long name": json.dumps({"user": {"name": "x" * 256}}).encode(),
    "NUL": rb'{"user": {"name": "a\u0000b"}}',
    "NUL in a key": rb'{"user": {"name": "a", "b\u0000": 1}}',
    "NUL deep inside": rb'{"user": {"name": "a", "b": [{"c": "\u0000"}]}}',
    "half a surrogate": rb'{"user": {"name": "a\ud800b"}}',
    "not UTF-8": b'{"user": {"name": "\xff"}}',
    "a huge number": b'{"user": {"name": "a", "n": 99999999999999999999999}}',
    "a huge float": b'{"user": {"name": "a", "n": 1e999}}',
    "deep nesting": f'{{"user": {{"name": "a", "n": {DEEP}}}}}'.encode(),
    "deep but whole": f'{{"user": {{"name": "a", "n": {"[" * 400}{"]" * 400}}}}}'.encode(),
    "text for enabled": b'{"user": {"name": "a", "enabled": "yes"}}',
    "a number for a password": b'{"user": {"name": "a", "password": 5}}',
    "an empty password": b'{"user": {"name": "a", "password": ""}}',
    "a long password": json.dumps({"user": {"name": "a", "password": "x" * 4097}}).encode(),
    "an unknown option": b'{"user": {"name": "a", "options": {"x": true}}}',
    "an option of a wrong type": b'{"user": {"name": "a", "options": {"lock_password": 1}}}',
    "rules of a wrong type": b'{"user": {"name": "a", "options": {"multi_factor_auth_rules": ["password"]}}}',
    "a long domain": json.dumps({"user": {"name": "a", "domain_id": "x" * 65}}).encode(),
    "a domain as default project": b'{"user": {"name": "a", "default_project_id": "default"}}',
}


def check(response: Any, *statuses: int) -> None:
    assert response.status_code in statuses, response.text
    error = response.json()["error"]
    assert error["code"] == response.status_code
    assert set(error) == {"code", "message", "title"}
    assert error["message"]


@pytest.mark.parametrize("body", BAD_BODIES)
async def test_bad_bodies(world: World, admin: Admin, body: str) -> None:
    before = await admin.call("GET", "/users")
    headers = {"X-Auth-Token": admin.token}

    check(await world.http.post("/identity/v3/users", content=BAD_BODIES[body], headers=headers), 400)
    if body not in {"no name"}:
        path = f"/identity/v3/users/{world.ids.admin_user_id}"
        check(await world.http.patch(path, content=BAD_BODIES[body], headers=headers), 400)
    assert await admin.call("GET", "/users") == before


@pytest.mark.parametrize("kind", ["domain", "project", "user", "group", "role"])
async def test_every_kind_refuses_the_same(world: World, admin: Admin, kind: str) -> None:
    for text in (b"{", b"{}", b'{"%s": {}}', b'{"%s": {"name": 5}}', rb'{"%s": {"name": "\u0000"}}'):
        content = text.replace(b"%s", kind.encode())
        headers = {"X-Auth-Token": admin.token}
        check(await world.http.post(f"/identity/v3/{kind}s", content=content, headers=headers), 400)


async def test_a_huge_body(world: World, admin: Admin) -> None:
    content = json.dumps({"user": {"name": "a", "n": "x" * 2_000_000}}).encode()
    check(await world.http.post("/identity/v3/users", content=content, headers={"X-Auth-Token": admin.token}), 413)


@pytest.mark.parametrize(
    "path",
    [
        "/users?limit=0",
        "/users?limit=-1",
        "/users?limit=x",
        "/users?limit=99999999999999999999",
        "/users?limit=%C2%B2",
        "/users?name=%00",
        "/users?%00=1",
        "/users?name=%ff",
        "/projects?limit=0",
    ],
)
async def test_bad_queries(admin: Admin, path: str) -> None:
    check(await admin.world.call("GET", path, token=admin.token), 400)


@pytest.mark.parametrize(
    "path", ["/users/%00", "/users/" + "x" * 5_000, "/projects/%ff", "/domains/%ed%a0%80", "/nowhere"]
)
async def test_bad_paths(admin: Admin, path: str) -> None:
    check(await admin.world.call("GET", path, token=admin.token), 404)


async def test_a_wrong_method(admin: Admin) -> None:
    check(await admin.world.call("PUT", "/users", token=admin.token), 405)


@pytest.mark.parametrize(
    "name__op", ["name__regex=x", "name__=x", "name__istartswith=", "unknown=x", "unknown__contains=x"]
)
async def test_odd_filters_do_no_harm(admin: Admin, name__op: str) -> None:
    assert (await admin.world.call("GET", f"/users?{name__op}", token=admin.token)).status_code == 200


USER = {"id": "x", "password": "y"}
BAD_AUTH: dict[str, tuple[Any, int]] = {
    "no identity": ({}, 400),
    "null": (None, 400),
    "no methods": ({"identity": {}}, 400),
    "an empty list": ({"identity": {"methods": []}}, 401),
    "methods as text": ({"identity": {"methods": "password"}}, 400),
    "an unknown method": ({"identity": {"methods": ["totp"], "totp": {}}}, 401),
    "no proof": ({"identity": {"methods": ["password"]}}, 400),
    "no user": ({"identity": {"methods": ["password"], "password": {}}}, 400),
    "a nameless user": ({"identity": {"methods": ["password"], "password": {"user": {"password": "y"}}}}, 400),
    "no domain": ({"identity": {"methods": ["password"], "password": {"user": {"name": "x", "password": "y"}}}}, 400),
    "a number": ({"identity": {"methods": ["password"], "password": {"user": {"id": "x", "password": 5}}}}, 400),
    "two scopes": (
        {
            "identity": {"methods": ["password"], "password": {"user": USER}},
            "scope": {"project": {"id": "a"}, "domain": {"id": "b"}},
        },
        400,
    ),
    "an odd scope": ({"identity": {"methods": ["password"], "password": {"user": USER}}, "scope": "all"}, 400),
    "half the system": (
        {"identity": {"methods": ["password"], "password": {"user": USER}}, "scope": {"system": {"all": False}}},
        400,
    ),
    "a trust": (
        {"identity": {"methods": ["password"], "password": {"user": USER}}, "scope": {"OS-TRUST:trust": {"id": "x"}}},
        400,
    ),
    "NUL": ({"identity": {"methods": ["password"], "password": {"user": {"id": "\x00", "password": "y"}}}}, 400),
    "a credential without a name": (
        {"identity": {"methods": ["application_credential"], "application_credential": {"secret": "x"}}},
        400,
    ),
    "a long token": ({"identity": {"methods": ["token"], "token": {"id": "x" * 100_000}}}, 401),
    "a token of other letters": ({"identity": {"methods": ["token"], "token": {"id": "gAAAAé"}}}, 401),
}


@pytest.mark.parametrize("case", BAD_AUTH)
async def test_bad_authentication(world: World, case: str) -> None:
    auth, status = BAD_AUTH[case]
    check(await world.call("POST", "/auth/tokens", {"auth": auth}), status)


@pytest.mark.parametrize("token", ["x", "gAAAAA" + "A" * 300, "x" * 9_000, "é", "=", "....", "gAAAAABm" * 40])
async def test_bad_tokens(world: World, token: str) -> None:
    headers = [(b"x-auth-token", token.encode("latin-1"))]
    check(await world.http.get("/identity/v3/auth/projects", headers=headers), 401)


async def test_a_token_that_was_tampered_with(world: World, admin: Admin) -> None:
    token = admin.token
    for place in range(0, len(token), 7):
        other = "A" if token[place] != "A" else "B"
        forged = token[:place] + other + token[place + 1 :]
        assert not await world.is_valid(forged)


async def test_no_secret_is_in_an_error(world: World, admin: Admin) -> None:
    secret = "hunter2-hunter2"
    bodies: list[Any] = [
        {"user": {"name": "a", "password": [secret]}},
        {"user": {"name": "a", "password": {secret: 1}}},
        {"user": {"name": 5, "password": secret}},
    ]
    for body in bodies:
        response = await world.call("POST", "/users", body, admin.token)
        check(response, 400)
        assert secret not in response.text
