"""What administrators do to the same things at the same time.

What is deleted while others change it takes along the tokens of whatever it was at its end; of two changes of one thing
none is lost; and two that are right by themselves break no rule together.
"""

import asyncio

import pytest

from muster.base.clock import system_clock
from muster.base.errors import Invalid, NotFound
from muster.domain import revocations as subjects
from muster.domain.attribute_filters import Page
from muster.domain.catalog import CatalogService, Endpoint, Region
from muster.domain.groups import Group
from muster.domain.patches import EndpointPatch, RegionPatch, RolePatch, ServicePatch
from muster.domain.projects import Project
from muster.domain.roles import Implication, Role
from muster.domain.users import Login, User
from muster.services.catalog import Catalog
from muster.services.groups import Groups
from muster.services.revocations import Revocations
from muster.services.roles import Roles
from muster.store import catalog as catalog_store
from muster.store import groups as group_store
from muster.store import projects as project_store
from muster.store import roles as role_store
from muster.store import users as user_store
from muster.store.engine import Database

# SQLite has one writer: there transactions follow each other.
pytestmark = pytest.mark.parametrize("database", ["postgresql"], indirect=True)

HANG_S = 300.0


@pytest.fixture
async def revocations(database: Database) -> Revocations:
    async with database.write() as connection:
        domain = Project(id="d", name="d", domain_id=None, parent_id=None, is_domain=True)
        await project_store.insert(connection, [domain])
        await user_store.insert(connection, [Login(User(id="u", name="u", domain_id="d"), None)])
        await group_store.insert(connection, [Group(id="g", name="g", domain_id="d")])
        await role_store.insert(connection, [Role(id="r", name="old")])
    return Revocations(database, system_clock, token_lifetime_s=3_600.0)


async def _in_the_middle_of(first, change):
    """The outcome of `change`, begun in the middle of `first`, which goes on when it has come, or cannot."""
    reached, go = asyncio.Event(), asyncio.Event()

    async def lose_time() -> None:
        reached.set()
        await go.wait()

    async with asyncio.timeout(HANG_S):
        doing = asyncio.create_task(first(lose_time))
        await reached.wait()
        changing = asyncio.create_task(change())
        await asyncio.wait({changing}, timeout=1.0)
        go.set()
        await doing
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

    outcome = await _in_the_middle_of(deletion, lambda: groups.add_member("g", "u"))
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

    outcome = await _in_the_middle_of(deletion, lambda: roles.update("r", RolePatch(name="new")))
    assert isinstance(outcome, NotFound) or revocations.is_revoked([subjects.of_role("new")], 0)


def _losing_time(monkeypatch, store, name, lose_time):
    """The first who calls this function of `store` loses time before it."""
    function, called = getattr(store, name), []

    async def called_late(*args):
        called.append(args)
        if len(called) == 1:
            await lose_time()
        return await function(*args)

    monkeypatch.setattr(store, name, called_late)


UPDATES = {
    "region": (Catalog.update_region, Catalog.show_region, RegionPatch),
    "service": (Catalog.update_service, Catalog.show_service, ServicePatch),
    "endpoint": (Catalog.update_endpoint, Catalog.show_endpoint, EndpointPatch),
}


@pytest.fixture
async def catalog(database: Database) -> Catalog:
    """Of regions `one`, `two` and `three`, which is below `two`, a service `service`, and its endpoint `endpoint`."""
    async with database.write() as connection:
        await catalog_store.insert(connection, [Region(id="one"), Region(id="two"), Region(id="region")])
        await catalog_store.insert(connection, [Region(id="three", parent_region_id="two")])
        await catalog_store.insert(connection, [CatalogService(id="service", type="compute")])
        made = Endpoint(id="endpoint", service_id="service", interface="public", url="http://127.0.0.1")
        await catalog_store.insert(connection, [made])
    return Catalog(database)


@pytest.mark.parametrize("kind", UPDATES)
async def test_two_change_different_attributes_of_one_thing(catalog, monkeypatch, kind):
    update, show, patch = UPDATES[kind]

    async def first(lose_time):
        _losing_time(monkeypatch, catalog_store, "save", lose_time)
        await update(catalog, kind, patch(extra={"first": 1}))

    await _in_the_middle_of(first, lambda: update(catalog, kind, patch(extra={"second": 2})))
    assert (await show(catalog, kind)).extra == {"first": 1, "second": 2}


async def test_two_regions_come_below_each_other(catalog, monkeypatch):
    async def first(lose_time):
        _losing_time(monkeypatch, catalog_store, "save", lose_time)
        await catalog.update_region("two", RegionPatch(parent_region_id="one"))

    change = RegionPatch(parent_region_id="three")
    outcome = await _in_the_middle_of(first, lambda: catalog.update_region("one", change))
    assert isinstance(outcome, Invalid)
    regions = (await catalog.list_regions([], Page(9))).items
    assert {one.id: one.parent_region_id for one in regions} == {
        "one": None,
        "two": "one",
        "three": "two",
        "region": None,
    }


async def test_two_implications_close_a_circle(database, revocations, monkeypatch):
    roles = Roles(database, revocations)
    async with database.write() as connection:
        await role_store.insert(connection, [Role(id=name, name=name) for name in "abc"])
        await role_store.add_implications(connection, [Implication("b", "c")])

    async def first(lose_time):
        _losing_time(monkeypatch, role_store, "add_implications", lose_time)
        await roles.imply("a", "b")

    assert isinstance(await _in_the_middle_of(first, lambda: roles.imply("c", "a")), Invalid)
    async with database.read() as connection:
        assert await role_store.read_implications(connection) == [Implication("a", "b"), Implication("b", "c")]
