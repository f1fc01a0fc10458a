"""Who may do what: every route, asked by everyone, against one table."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .world import Admin, World

# What each kind of caller gets, in the order of CALLERS: y for 'is let through' (whatever comes of it), f for 403.
CALLERS = ("admin", "system reader", "member", "reader", "stranger")
# In the member's project too. To this API, roles other than admin are all alike: what counts is where one has them.
LIKE_THE_READER = ("manager", "service")
ADMIN_ONLY = "yffff"
READERS = "yyfff"
OWN_PROJECT = "yyyyf"
OWNER = "yyyff"  # the member is the user that the path names
OWNER_NO_READER = "yfyff"
SELF_ONLY = "ffyff"
EVERYONE = "yyyyy"

TABLE: dict[str, str] = {
    "GET /auth/tokens": EVERYONE,
    "DELETE /auth/tokens": EVERYONE,
    "GET /auth/projects": EVERYONE,
    "GET /auth/domains": EVERYONE,
    "GET /auth/system": EVERYONE,
    "GET /auth/catalog": "yfyyy",  # the reader of the system has no project
    "POST /projects": ADMIN_ONLY,
    "GET /projects": READERS,
    "GET /projects/{project_id}": OWN_PROJECT,
    "PATCH /projects/{project_id}": ADMIN_ONLY,
    "DELETE /projects/{project_id}": ADMIN_ONLY,
    "GET /projects/{project_id}/tags": OWN_PROJECT,
    "PUT /projects/{project_id}/tags": ADMIN_ONLY,
    "DELETE /projects/{project_id}/tags": ADMIN_ONLY,
    "GET /projects/{project_id}/tags/{tag}": OWN_PROJECT,
    "PUT /projects/{project_id}/tags/{tag}": ADMIN_ONLY,
    "DELETE /projects/{project_id}/tags/{tag}": ADMIN_ONLY,
    "GET /users/{user_id}/projects": OWNER,
    "POST /domains": ADMIN_ONLY,
    "GET /domains": READERS,
    "GET /domains/{domain_id}": "yyyyf",  # the stranger's project is in another domain
    "PATCH /domains/{domain_id}": ADMIN_ONLY,
    "DELETE /domains/{domain_id}": "fffff",  # not even an admin, before it is disabled
    "POST /users": ADMIN_ONLY,
    "GET /users": READERS,
    "GET /users/{user_id}": OWNER,
    "PATCH /users/{user_id}": ADMIN_ONLY,
    "DELETE /users/{user_id}": ADMIN_ONLY,
    "GET /users/{user_id}/groups": OWNER,
    "GET /users/{user_id}/access_rules": OWNER,
    "POST /users/{user_id}/application_credentials": SELF_ONLY,
    "GET /users/{user_id}/application_credentials": OWNER,
    "GET /users/{user_id}/application_credentials/{credential_id}": OWNER,
    "DELETE /users/{user_id}/application_credentials/{credential_id}": OWNER_NO_READER,
    "POST /groups": ADMIN_ONLY,
    "GET /groups": READERS,
    "GET /groups/{group_id}": READERS,
    "PATCH /groups/{group_id}": ADMIN_ONLY,
    "DELETE /groups/{group_id}": ADMIN_ONLY,
    "GET /groups/{group_id}/users": READERS,
    "PUT /groups/{group_id}/users/{user_id}": ADMIN_ONLY,
    "GET /groups/{group_id}/users/{user_id}": OWNER,
    "DELETE /groups/{group_id}/users/{user_id}": ADMIN_ONLY,
    "POST /roles": ADMIN_ONLY,
    "GET /roles": READERS,
    "GET /roles/{role_id}": READERS,
    "PATCH /roles/{role_id}": ADMIN_ONLY,
    "DELETE /roles/{role_id}": ADMIN_ONLY,
    "GET /roles/{role_id}/implies": READERS,
    "PUT /roles/{role_id}/implies/{implied_id}": ADMIN_ONLY,
    "GET /roles/{role_id}/implies/{implied_id}": READERS,
    "DELETE /roles/{role_id}/implies/{implied_id}": ADMIN_ONLY,
    "GET /role_inferences": READERS,
    "GET /role_assignments": READERS,
    "GET /regions": EVERYONE,
    "GET /regions/{region_id}": EVERYONE,
    "PUT /regions/{region_id}": ADMIN_ONLY,
}
for kind in ("regions", "services", "endpoints"):
    one = f"/{kind}/{{{kind[:-1]}_id}}"
    TABLE |= {f"POST /{kind}": ADMIN_ONLY, f"PATCH {one}": ADMIN_ONLY, f"DELETE {one}": ADMIN_ONLY}
for kind in ("services", "endpoints"):
    TABLE |= {f"GET /{kind}": READERS, f"GET /{kind}/{{{kind[:-1]}_id}}": READERS}
for where in ("projects/{project_id}", "domains/{domain_id}", "system"):
    for who in ("users/{user_id}", "groups/{group_id}"):
        path = f"/{where}/{who}/roles"
        TABLE |= {f"GET {path}": READERS, f"GET {path}/{{role_id}}": READERS}
        TABLE |= {f"PUT {path}/{{role_id}}": ADMIN_ONLY, f"DELETE {path}/{{role_id}}": ADMIN_ONLY}
        if where != "system":
            path = f"/OS-INHERIT{path}"
            one = f"{path}/{{role_id}}/inherited_to_projects"
            TABLE |= {f"GET {path}/inherited_to_projects": READERS, f"GET {one}": READERS}
            TABLE |= {f"PUT {one}": ADMIN_ONLY, f"DELETE {one}": ADMIN_ONLY}

PUBLIC = {"GET /", "GET /v3", "POST /v3/auth/tokens", "POST /v3/users/{user_id}/password"}


class Cast:
    """The callers' tokens, and values for the parameters of paths."""

    def __init__(self, tokens: dict[str, str], values: dict[str, str]) -> None:
        self.tokens = tokens
        self.values = values


async def _cast(world: World, admin: Admin) -> Cast:
    project = await admin.project("demo")
    foreign = await admin.project("foreign", domain_id=await admin.domain("abroad"))
    member, reader = await admin.user("member"), await admin.user("reader")
    stranger, watcher = await admin.user("stranger"), await admin.user("watcher")
    await admin.grant("member", member.id, project)
    await admin.grant("reader", reader.id, project)
    await admin.grant("member", stranger.id, foreign)
    others = {}
    for role in LIKE_THE_READER:
        user = await admin.user(role)
        await admin.grant(role, user.id, project)
        others[role] = await user.token(project)
    await admin.call("PUT", f"/system/users/{watcher.id}/roles/{world.ids.role_ids['reader']}")
    tokens = others | {
        "admin": admin.token,
        "system reader": await world.token(watcher.id, watcher.password, {"system": {"all": True}}),
        "member": await member.token(project),
        "reader": await reader.token(project),
        "stranger": await stranger.token(foreign),
    }
    nothing = "0" * 32
    names = ("group_id", "role_id", "implied_id", "credential_id", "region_id", "service_id", "endpoint_id", "tag")
    values = dict.fromkeys(names, nothing)
    return Cast(tokens, values | {"project_id": project, "user_id": member.id, "domain_id": "default"})


async def _rehearse(folder: Path) -> Cast:
    world = World(folder)
    await world.start()
    try:
        return await _cast(world, Admin(world, await world.admin_token()))
    finally:
        await world.stop()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Cast]:
    """A world's folder with the callers in its database, and the callers: made once, as it takes a hundred requests."""
    folder = tmp_path_factory.mktemp("stage")
    return folder, asyncio.run(_rehearse(folder))


@pytest.fixture
async def world(stage: tuple[Path, Cast], tmp_path: Path) -> AsyncIterator[World]:
    """A world of the test's own, in which the callers are known."""
    shutil.copytree(stage[0], tmp_path, dirs_exist_ok=True)
    one = World(tmp_path)
    await one.start()
    yield one
    await one.stop()


@pytest.fixture
def cast(stage: tuple[Path, Cast]) -> Cast:
    return stage[1]


def test_the_table_knows_every_route(world: World) -> None:
    known = {f"{method} /v3{path}" for method, _, path in (entry.partition(" ") for entry in TABLE)}
    routes = {f"{method} {path}" for method, path in world.application.routes if method != "HEAD"}
    assert routes == known | PUBLIC


@pytest.mark.parametrize("entry", TABLE)
async def test_who_may(world: World, cast: Cast, entry: str) -> None:
    method, _, path = entry.partition(" ")
    path = path.format(**cast.values)

    async def ask(token: str | None) -> int:
        # A body that no handler takes: whoever is let through changes nothing.
        headers = (
            {} if token is None else {"X-Auth-Token": token, "X-Subject-Token": "x" if method == "DELETE" else token}
        )
        response = await world.http.request(method, f"/identity/v3{path}", content=b"[]", headers=headers)
        assert response.status_code < 500, response.text
        return response.status_code

    assert await ask(None) == 401
    assert await ask("nonsense") == 401
    # Deletions by those who may come last.
    wanted = dict(zip(CALLERS, TABLE[entry], strict=True))
    wanted |= dict.fromkeys(LIKE_THE_READER, wanted["reader"])
    for caller, expected in sorted(wanted.items(), key=lambda pair: pair[1] == "y"):
        status = await ask(cast.tokens[caller])
        assert (status == 403) == (expected == "f"), (caller, status)
        assert status != 401
        if expected == "y" and method == "DELETE":
            break


async def test_a_reader_never_writes_even_by_owning(world: World, cast: Cast) -> None:
    before = await world.call("GET", "/users", token=cast.tokens["admin"])
    for caller in (*CALLERS[1:], *LIKE_THE_READER):
        response = await world.call("POST", "/users", {"user": {"name": "intruder"}}, cast.tokens[caller])
        assert response.status_code == 403
    assert (await world.call("GET", "/users", token=cast.tokens["admin"])).json() == before.json()
