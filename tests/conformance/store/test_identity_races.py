"""What is deleted while others change it takes along the tokens of whatever it was at its end."""

import asyncio

import pytest

from muster.base.clock import system_clock
from muster.base.errors import NotFound
from muster.domain import revocations as subjects
from muster.domain.groups import Group
from muster.domain.patches import RolePatch
from muster.domain.projects import Project
from muster.domain.roles import Role
from muster.domain.users import Login, User
from muster.services.groups import Groups
from muster.services.revocations import Revocations
from muster.services.roles import Roles
from muster.store import groups as group_store
from muster.store import projects as project_store
from muster.store import roles as role_store
from muster.store import users as user_store
from muster.store.engine import Database

# SQLite has one writer: there transactions follow each other.
pytestmark = pytest.mark.parametrize("database", ["postgresql"], indirect=True)

HANG_S = 60.0


@pytest.fixture
async def revocations(database: Database) -> Revocations:
    async with database.write() as connection:
        domain = Project(id="d", name="d", domain_id=None, parent_id=None, is_domain=True)
        await project_store.insert(connection, [domain])
        await user_store.insert(connection, [Login(User(id="u", name="u", domain_id="d"), None)])
        await group_store.insert(connection, [Group(id="g", name="g", domain_id="d")])
        await role_store.insert(connection, [Role(id="r", name="old")])
    return Revocations(database, system_clock, token_lifetime_s=3_600.0)


async def _while_deleting(deletion, change):
    """The outcome of `change`, begun in the middle of a deletion, which goes on when it has come, or cannot."""
    reached, go = asyncio.Event(), asyncio.Event()

    async def lose_time() -> None:
        reached.set()
        await go.wait()

    async with asyncio.timeout(HANG_S):
        deleting = asyncio.create_task(deletion(lose_time))
        await reached.wait()
        changing = asyncio.create_task(change())
        await asyncio.wait({changing}, timeout=1.0)
        go.set()
        await deleting
        return (await asyncio.gather(changing, return_exceptions=True))[0]


async def test_who_comes_into_a_group_that_is_being_deleted(database, revocations, monkeypatch):
    groups = Groups(database, revocations)
    read = group_store.read_member_ids

    async def deletion(lose_time):
        async def read_and_lose_time(connection, group_ids):
            found = await read(connection, group_ids)
            await lose_time()
            return found

        monkeypatch.setattr(group_store, "read_member_ids", read_and_lose_time)
        await groups.delete("g")

    outcome = await _while_deleting(deletion, lambda: groups.add_member("g", "u"))
    assert isinstance(outcome, NotFound) or revocations.is_revoked([subjects.of_user("u")], 0)


async def test_a_role_that_is_being_deleted_gets_another_name(database, revocations, monkeypatch):
    roles = Roles(database, revocations)
    read = role_store.read_implications

    async def deletion(lose_time):
        async def read_and_lose_time(connection):
            found = await read(connection)
            await lose_time()
            return found

        monkeypatch.setattr(role_store, "read_implications", read_and_lose_time)
        await roles.delete("r")

    outcome = await _while_deleting(deletion, lambda: roles.update("r", RolePatch(name="new")))
    assert isinstance(outcome, NotFound) or revocations.is_revoked([subjects.of_role("new")], 0)
