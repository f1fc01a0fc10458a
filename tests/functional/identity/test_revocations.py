"""What is taken away ends the tokens that rest on it at once: here, after a restart, and in other processes."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from muster.store import revocations as store
from muster.store.engine import Connection

from .world import Admin, Person, World

Deed = Callable[["Setting"], Awaitable[object]]


class Setting:
    """A user in a project, by a direct grant and through a group."""

    def __init__(self, admin: Admin, alice: Person, project: str, group: str, role: str) -> None:
        self.admin, self.alice, self.project, self.group, self.role = admin, alice, project, group, role

    def call(self, method: str, path: str, body: object = None) -> Awaitable[object]:
        return self.admin.call(method, path, body)


@pytest.fixture
async def setting(admin: Admin) -> Setting:
    domain = await admin.domain("their own")
    alice = await admin.user("alice", domain_id=domain)
    project = await admin.project("demo", domain_id=domain)
    group = await admin.group("crew")
    role = await admin.role("observer")
    await admin.call("PUT", f"/groups/{group}/users/{alice.id}")
    await admin.call("PUT", f"/projects/{project}/groups/{group}/roles/{role}")
    await admin.grant("member", alice.id, project)
    return Setting(admin, alice, project, group, role)


async def domain_of(one: Setting) -> str:
    return (await one.admin.call("GET", f"/users/{one.alice.id}"))["user"]["domain_id"]


async def disable_domain(one: Setting) -> None:
    await one.call("PATCH", f"/domains/{await domain_of(one)}", {"domain": {"enabled": False}})


async def delete_domain(one: Setting) -> None:
    await disable_domain(one)
    await one.call("DELETE", f"/domains/{await domain_of(one)}")


EVERYTHING: dict[str, Deed] = {
    "user disabled": lambda one: one.call("PATCH", f"/users/{one.alice.id}", {"user": {"enabled": False}}),
    "user deleted": lambda one: one.call("DELETE", f"/users/{one.alice.id}"),
    "password reset": lambda one: one.call("PATCH", f"/users/{one.alice.id}", {"user": {"password": "other"}}),
    "out of a group": lambda one: one.call("DELETE", f"/groups/{one.group}/users/{one.alice.id}"),
    "group deleted": lambda one: one.call("DELETE", f"/groups/{one.group}"),
    "domain disabled": disable_domain,
    "domain deleted": delete_domain,
}
IN_THE_PROJECT: dict[str, Deed] = {
    "project disabled": lambda one: one.call("PATCH", f"/projects/{one.project}", {"project": {"enabled": False}}),
    "project deleted": lambda one: one.call("DELETE", f"/projects/{one.project}"),
    "role taken": lambda one: one.admin.ungrant("member", one.alice.id, one.project),
    "role taken from the group": lambda one: one.call(
        "DELETE", f"/projects/{one.project}/groups/{one.group}/roles/{one.role}"
    ),
    "role deleted": lambda one: one.call("DELETE", f"/roles/{one.role}"),
    "role renamed": lambda one: one.call("PATCH", f"/roles/{one.role}", {"role": {"name": "watcher"}}),
}


@pytest.mark.parametrize("deed", EVERYTHING)
async def test_ends_all_tokens(world: World, setting: Setting, deed: str) -> None:
    tokens = [await setting.alice.token(), await setting.alice.token(setting.project)]
    assert [await world.is_valid(token) for token in tokens] == [True, True]

    await EVERYTHING[deed](setting)

    assert [await world.is_valid(token) for token in tokens] == [False, False]
    assert await world.is_valid(setting.admin.token)
    status = (await world.log_in(setting.alice.id, setting.alice.password)).status_code
    assert status == (201 if "group" in deed else 401)


@pytest.mark.parametrize("deed", IN_THE_PROJECT)
async def test_ends_the_tokens_of_the_project(world: World, setting: Setting, deed: str) -> None:
    unscoped, scoped = await setting.alice.token(), await setting.alice.token(setting.project)
    assert await world.is_valid(scoped)

    await IN_THE_PROJECT[deed](setting)

    assert not await world.is_valid(scoped)
    assert await world.is_valid(unscoped)
    scope = {"project": {"id": setting.project}}
    status = (await world.log_in(setting.alice.id, setting.alice.password, scope)).status_code
    assert status == (401 if "project" in deed else 201)  # in the other cases another role is left
    assert (await world.log_in(setting.alice.id, setting.alice.password)).status_code == 201


async def test_a_token_got_right_after_is_valid_however_close(world: World, setting: Setting) -> None:
    """All in one moment: the world's clock stands still."""
    alice, project = setting.alice, setting.project

    for _ in range(3):
        old = await alice.token(project)
        await setting.admin.ungrant("member", alice.id, project)
        await setting.admin.grant("member", alice.id, project)
        new = await alice.token(project)
        assert not await world.is_valid(old)
        assert await world.is_valid(new)


async def test_an_old_unscoped_token_can_enter_the_project_again(world: World, setting: Setting) -> None:
    unscoped = await setting.alice.token()
    await setting.admin.ungrant("member", setting.alice.id, setting.project)
    await setting.admin.grant("member", setting.alice.id, setting.project)

    identity = {"methods": ["token"], "token": {"id": unscoped}}
    response = await world.authenticate(identity, {"project": {"id": setting.project}})

    assert response.status_code == 201
    assert await world.is_valid(response.headers["X-Subject-Token"])


async def test_revocations_survive_a_restart(world: World, setting: Setting, tmp_path: Path) -> None:
    gone, kept = await setting.alice.token(setting.project), await setting.alice.token()
    await setting.admin.ungrant("member", setting.alice.id, setting.project)

    again = World(tmp_path)
    await again.start()
    try:
        assert not await again.is_valid(gone)
        assert await again.is_valid(kept)
    finally:
        await again.stop()


async def test_another_process_learns_by_refreshing(world: World, setting: Setting, tmp_path: Path) -> None:
    other = World(tmp_path)
    await other.start()
    try:
        token = await setting.alice.token()
        assert await other.is_valid(token)
        await setting.call("PATCH", f"/users/{setting.alice.id}", {"user": {"password": "other"}})

        # It does not know yet; but it must not hand out a new token for the old one.
        assert await other.is_valid(token)
        identity = {"methods": ["token"], "token": {"id": token}}
        assert (await other.authenticate(identity)).status_code == 401

        await other.revocations.refresh()
        assert not await other.is_valid(token)
    finally:
        await other.stop()


async def test_revocations_are_pruned_when_all_their_tokens_have_expired(world: World, setting: Setting) -> None:
    await setting.call("PATCH", f"/users/{setting.alice.id}", {"user": {"password": "other"}})
    assert world.revocations._held

    world.offset_s = 3_600 + 301
    await world.revocations.refresh()

    assert not world.revocations._held
    fresh = World(world.directory)
    await fresh.start()
    try:
        assert not fresh.revocations._held
    finally:
        await fresh.stop()


async def test_what_has_expired_is_looked_for_once_a_minute(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refresh comes every few seconds, also in a cloud in which nothing happens."""
    looks, look = [], store.has_expired_ones

    async def counted(connection: Connection, now: float) -> bool:
        looks.append(now)
        return await look(connection, now)

    monkeypatch.setattr(store, "has_expired_ones", counted)
    for offset_s in (100.0, 103.0, 106.0, 159.0, 161.0, 164.0):
        world.offset_s = offset_s
        await world.revocations.refresh()
    assert len(looks) == 2


async def test_a_password_changed_while_an_old_one_is_checked_wins(world: World, setting: Setting) -> None:
    alice = setting.alice
    verify = world.passwords.verify

    async def slow(password_hash: str | None, password: str) -> bool:
        right = await verify(password_hash, password)
        await setting.call("PATCH", f"/users/{alice.id}", {"user": {"password": "other"}})
        return right

    world.passwords.verify = slow  # type: ignore[method-assign]
    token = await alice.token()

    assert not await world.is_valid(token)
