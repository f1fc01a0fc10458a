"""Application credentials: made, used, limited, and ended with what they rest on."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from .world import Admin, Person, World


class Holder:
    """A member of a project with a token for it."""

    def __init__(self, world: World, person: Person, project: str, token: str) -> None:
        self.world, self.person, self.project, self.token = world, person, project, token
        self.path = f"/users/{person.id}/application_credentials"

    async def make(self, token: str | None = None, **values: Any) -> httpx.Response:
        body = {"application_credential": {"name": "ci", **values}}
        return await self.world.call("POST", self.path, body, token or self.token)

    async def made(self, **values: Any) -> dict[str, Any]:
        response = await self.make(**values)
        assert response.status_code == 201, response.text
        return response.json()["application_credential"]

    async def log_in(self, credential: dict[str, Any], scope: Any = None, **changes: Any) -> httpx.Response:
        proof = {"id": credential["id"], "secret": credential["secret"], **changes}
        identity = {"methods": ["application_credential"], "application_credential": proof}
        return await self.world.authenticate(identity, scope)


@pytest.fixture
async def holder(world: World, admin: Admin) -> Holder:
    alice, project = await admin.user("alice"), await admin.project("demo")
    await admin.grant("member", alice.id, project)
    return Holder(world, alice, project, await alice.token(project))


async def test_made_shown_used_deleted(holder: Holder) -> None:
    credential = await holder.made(description="for the pipeline")

    assert credential["unrestricted"] is False
    assert credential["expires_at"] is None
    assert credential["project_id"] == holder.project
    assert [role["name"] for role in credential["roles"]] == ["member", "reader"]
    assert len(credential["secret"]) > 40
    path = f"{holder.path}/{credential['id']}"
    shown = (await holder.world.call("GET", path, token=holder.token)).json()["application_credential"]
    assert shown == {key: value for key, value in credential.items() if key != "secret"}
    listed = (await holder.world.call("GET", holder.path, token=holder.token)).json()["application_credentials"]
    assert listed == [shown]

    response = await holder.log_in(credential)
    token = response.json()["token"]
    assert token["project"]["id"] == holder.project
    assert token["methods"] == ["application_credential"]
    assert token["application_credential"] == {"id": credential["id"], "name": "ci", "restricted": True}
    used = response.headers["X-Subject-Token"]

    assert (await holder.world.call("DELETE", path, token=holder.token)).status_code == 204
    assert not await holder.world.is_valid(used)
    assert (await holder.log_in(credential)).status_code == 401
    assert (await holder.world.call("GET", path, token=holder.token)).status_code == 404


async def test_by_name_and_with_an_own_secret(holder: Holder) -> None:
    await holder.made(secret="of my own")
    proof = {"name": "ci", "user": {"name": "alice", "domain": {"id": "default"}}, "secret": "of my own"}
    identity = {"methods": ["application_credential"], "application_credential": proof}

    assert (await holder.world.authenticate(identity)).status_code == 201
    proof["secret"] = "of yours"
    assert (await holder.world.authenticate(identity)).status_code == 401


async def test_it_holds_no_more_than_it_was_given(holder: Holder, world: World) -> None:
    credential = await holder.made(roles=[{"name": "reader"}])
    token = (await holder.log_in(credential)).headers["X-Subject-Token"]

    assert world.authority.context(token).roles == {"reader"}
    for roles in ([{"name": "admin"}], [{"id": world.ids.role_ids["admin"]}], [{"name": "none"}], [{}]):
        assert (await holder.make(name="x", roles=roles)).status_code == 400
    for scope in ({"system": {"all": True}}, {"project": {"id": world.ids.admin_project_id}}, {"unscoped": {}}):
        assert (await holder.log_in(credential, scope)).status_code == 401
    rescoped = {"methods": ["token"], "token": {"id": token}}
    response = await world.authenticate(rescoped)
    again = response.headers["X-Subject-Token"]
    assert world.authority.context(again).roles == {"reader"}
    assert world.authority.token(again).restricted


async def test_a_restricted_one_makes_no_others(holder: Holder) -> None:
    restricted = (await holder.log_in(await holder.made())).headers["X-Subject-Token"]
    assert (await holder.make(restricted, name="other")).status_code == 403

    free = await holder.made(name="free", unrestricted=True)
    token = (await holder.log_in(free)).headers["X-Subject-Token"]
    assert (await holder.make(token, name="other")).status_code == 201
    path = f"{holder.path}/{free['id']}"
    assert (await holder.world.call("DELETE", path, token=restricted)).status_code == 403


async def test_expiry(holder: Holder, world: World) -> None:
    for bad in ("2001-01-01T00:00:00", "soon", "", "0000-00-00T00:00:00"):
        assert (await holder.make(expires_at=bad)).status_code == 400
    end = world.clock() + 600
    text = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    credential = await holder.made(expires_at=text)
    assert credential["expires_at"] == text

    response = await holder.log_in(credential)
    assert response.json()["token"]["expires_at"] == text + "Z"
    world.offset_s = 601
    assert not await world.is_valid(response.headers["X-Subject-Token"])
    assert (await holder.log_in(credential)).status_code == 401


async def test_it_ends_with_its_role(holder: Holder, admin: Admin) -> None:
    credential = await holder.made()
    token = (await holder.log_in(credential)).headers["X-Subject-Token"]
    await admin.ungrant("member", holder.person.id, holder.project)

    assert not await holder.world.is_valid(token)
    await admin.grant("member", holder.person.id, holder.project)
    assert (await holder.log_in(credential)).status_code == 401  # Keystone deletes it too


async def test_it_needs_every_role_it_was_given(holder: Holder, admin: Admin) -> None:
    crew = await admin.group("crew")
    role = await admin.role("observer")
    await admin.call("PUT", f"/groups/{crew}/users/{holder.person.id}")
    await admin.call("PUT", f"/projects/{holder.project}/groups/{crew}/roles/{role}")
    credential = await holder.made(token=await holder.person.token(holder.project))
    assert (await holder.log_in(credential)).status_code == 201

    await admin.call("DELETE", f"/groups/{crew}/users/{holder.person.id}")
    assert (await holder.log_in(credential)).status_code == 401


async def test_bad_ones(holder: Holder, world: World) -> None:
    assert (await holder.make()).status_code == 201
    assert (await holder.make()).status_code == 409
    assert (await holder.make(name="")).status_code == 400
    assert (await holder.make(name="x", secret="")).status_code == 400
    assert (
        await holder.make(name="x", access_rules=[{"path": "/x", "method": "GET", "service": "y"}])
    ).status_code == 400
    assert (await holder.make(name="x", access_rules=[])).status_code == 201
    assert (await holder.make(await holder.person.token(), name="y")).status_code == 400  # unscoped


async def test_nobody_makes_one_for_another(holder: Holder, admin: Admin) -> None:
    assert (await holder.make(admin.token)).status_code == 403
    credential = await holder.made()
    path = f"{holder.path}/{credential['id']}"
    bob = await admin.user("bob")
    for method, where in (("GET", holder.path), ("GET", path), ("DELETE", path)):
        assert (await holder.world.call(method, where, token=await bob.token())).status_code == 403
    other = f"/users/{bob.id}/application_credentials/{credential['id']}"
    await admin.call("GET", other, expect=404)
    await admin.call("DELETE", path, expect=204)


async def test_a_role_granted_after_the_token_was_made_can_be_given_on(holder: Holder, admin: Admin) -> None:
    late = await admin.role("late")
    assert (await holder.make(roles=[{"id": late}])).status_code == 400
    await admin.grant(late, holder.person.id, holder.project)
    credential = await holder.made(roles=[{"id": late}])
    assert [role["name"] for role in credential["roles"]] == ["late"]
