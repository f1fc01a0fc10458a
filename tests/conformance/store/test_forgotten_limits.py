"""Limits go with the project or the user whose they are, and with a domain those of all that is in it."""

import asyncio
from collections.abc import AsyncIterator, Coroutine

import pytest
from sqlalchemy import insert, select

from muster.base.clock import system_clock
from muster.base.errors import Invalid
from muster.domain.patches import ProjectPatch
from muster.domain.projects import Project
from muster.domain.quotas import COMPUTE_DEFAULTS, EVERYBODY
from muster.domain.users import Login, User
from muster.services.compute_quotas import ComputeQuotas
from muster.services.domains import Domains
from muster.services.passwords import Passwords
from muster.services.projects import Projects
from muster.services.quotas import Quotas
from muster.services.revocations import Revocations
from muster.services.user_quotas import UserQuotas
from muster.services.users import Users
from muster.store import projects as project_store
from muster.store import usages as usage_store
from muster.store import users as user_store
from muster.store.engine import Database
from muster.store.migrations import running
from muster.store.quotas import quotas
from muster.store.schema import bring_to_head
from muster.store.user_quotas import user_quotas

HANG_S = 300.0
QUOTAS = Quotas(COMPUTE_DEFAULTS)


@pytest.fixture
async def revocations(database: Database) -> Revocations:
    """Of the domains `d` and `e` with projects `d1`, `d2`, `e1` and users `ann`, `ben` of `d`, `eve` of `e`.

    Each project has a limit of its own, and each user one in `d1` and in `e1`; so has everybody.
    """
    async with database.write() as connection:
        for domain in ("d", "e"):
            made = Project(id=domain, name=domain, domain_id=None, parent_id=None, is_domain=True)
            await project_store.insert(connection, [made])
        await project_store.insert(
            connection, [Project(id=p, name=p, domain_id=p[0], parent_id=p[0]) for p in ("d1", "d2", "e1")]
        )
        people = {"ann": "d", "ben": "d", "eve": "e"}
        await user_store.insert(connection, [Login(User(id=u, name=u, domain_id=d), None) for u, d in people.items()])
    of_projects, of_users = ComputeQuotas(database, QUOTAS), UserQuotas(database, QUOTAS)
    await of_projects.update_defaults({"cores": 30})
    for project_id in ("d1", "d2", "e1"):
        await of_projects.update(project_id, {"cores": 16}, force=False)
    for project_id in ("d1", "e1"):
        for user_id in people:
            await of_users.update(project_id, user_id, {"cores": 5}, force=False)
    return Revocations(database, system_clock, token_lifetime_s=3_600.0)


async def _left(database: Database) -> tuple[set[str], set[tuple[str, str]], set[str]]:
    """Whose limits are there: of projects, of users in projects; and the projects that count what users have."""
    async with database.read() as connection:
        of_projects = set((await connection.execute(select(quotas.c.project_id))).scalars())
        found = await connection.execute(select(user_quotas.c.project_id, user_quotas.c.user_id))
        of_users = {(row.project_id, row.user_id) for row in found}
        counting = (await usage_store.read_figures(connection, ["d1", "d2", "e1"])).by_user
    return of_projects, of_users, counting


def _in(project_id: str, *user_ids: str) -> set[tuple[str, str]]:
    return {(project_id, user_id) for user_id in user_ids}


async def test_a_projects_limits_go_with_it_and_those_of_its_users(database, revocations):
    await Projects(database, revocations).delete("d1")
    assert await _left(database) == ({EVERYBODY, "d2", "e1"}, _in("e1", "ann", "ben", "eve"), {"e1"})
    await Projects(database, revocations).delete("d2")
    assert await _left(database) == ({EVERYBODY, "e1"}, _in("e1", "ann", "ben", "eve"), {"e1"})


async def test_a_users_limits_go_with_it_and_others_may_have_what_it_was_granted(database, revocations):
    people, limits = Users(database, revocations, Passwords(), system_clock), UserQuotas(database, QUOTAS)
    with pytest.raises(Invalid, match="less than or equal to 6"):
        await limits.update("d1", "ben", {"cores": 7}, force=False)
    await people.delete("ann")
    await limits.update("d1", "ben", {"cores": 11}, force=False)
    projects = {EVERYBODY, "d1", "d2", "e1"}
    assert await _left(database) == (projects, _in("d1", "ben", "eve") | _in("e1", "ben", "eve"), {"d1", "e1"})
    await people.delete("eve")
    await people.delete("ben")
    assert await _left(database) == (projects, set(), set())


async def test_with_a_domain_go_the_limits_of_all_that_is_in_it(database, revocations):
    domains = Domains(database, revocations)
    await domains.update("d", ProjectPatch(enabled=False))
    await domains.delete("d")
    assert await _left(database) == ({EVERYBODY, "e1"}, _in("e1", "eve"), {"e1"})


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # SQLite has one writer
@pytest.mark.parametrize("user_id", [None, "ann"])
async def test_a_limit_that_is_being_set_does_not_outlive_the_project_or_the_user(database, revocations, user_id):
    seen, go = asyncio.Event(), asyncio.Event()

    class Slow(Quotas):
        async def set_limits(self, connection, project_id, limits):
            seen.set()
            await go.wait()
            await super().set_limits(connection, project_id, limits)

    def setting(quotas: Quotas) -> Coroutine[None, None, None]:
        if user_id is None:
            return ComputeQuotas(database, quotas).update("d2", {"ram": 1}, force=False)
        return UserQuotas(database, quotas).update("d2", user_id, {"ram": 1}, force=False)

    def deletion() -> Coroutine[None, None, None]:
        if user_id is None:
            return Projects(database, revocations).delete("d2")
        return Users(database, revocations, Passwords(), system_clock).delete(user_id)

    async with asyncio.timeout(HANG_S):
        being_set = asyncio.create_task(setting(Slow(COMPUTE_DEFAULTS)))
        await seen.wait()
        deleting = asyncio.create_task(deletion())
        await asyncio.wait([deleting], timeout=0.5)
        go.set()
        await asyncio.gather(being_set, deleting)
    of_projects, of_users, _ = await _left(database)
    assert (of_projects, of_users) == (
        ({EVERYBODY, "d1", "e1"}, _in("d1", "ann", "ben", "eve") | _in("e1", "ann", "ben", "eve"))
        if user_id is None
        else ({EVERYBODY, "d1", "d2", "e1"}, _in("d1", "ben", "eve") | _in("e1", "ben", "eve"))
    )
    with pytest.raises(Invalid):
        await setting(QUOTAS)


async def test_nobody_sets_a_limit_of_a_user_who_is_deleted(database, revocations):
    await Users(database, revocations, Passwords(), system_clock).delete("ann")
    with pytest.raises(Invalid, match="User ID ann is not a valid user"):
        await UserQuotas(database, QUOTAS).update("d1", "ann", {"cores": 1}, force=False)


@pytest.fixture
async def before(database_url: str) -> AsyncIterator[Database]:
    """A database as the version before made it."""
    opened = Database(database_url)
    async with opened.alter() as connection:
        await connection.run_sync(running.upgrade, "4ec8f9fe4e0e")
    yield opened
    await asyncio.shield(opened.close())


async def test_what_stayed_of_deleted_ones_until_now_goes_with_the_migration(before):
    async with before.write() as connection:
        made = Project(id="d", name="d", domain_id=None, parent_id=None, is_domain=True)
        await project_store.insert(connection, [made])
        await project_store.insert(connection, [Project(id="d1", name="d1", domain_id="d", parent_id="d")])
        await user_store.insert(connection, [Login(User(id="ann", name="ann", domain_id="d"), None)])
        limit = {"resource": "cores", "hard_limit": 1}
        await connection.execute(insert(quotas), [{"project_id": p, **limit} for p in (EVERYBODY, "d1", "gone")])
        places = [*_in("d1", "ann", "gone"), *_in("gone", "ann")]
        await connection.execute(insert(user_quotas), [{"project_id": p, "user_id": u, **limit} for p, u in places])
    await bring_to_head(before)
    assert await _left(before) == ({EVERYBODY, "d1"}, _in("d1", "ann"), set())
