"""Domains, projects, users, groups and roles: what the constraints refuse, and what goes with what, everywhere."""

from collections.abc import Sequence

import pytest

from muster.domain.application_credentials import ApplicationCredential, CredentialLogin
from muster.domain.assignments import Actor, ActorKind, Grant, Target, TargetKind
from muster.domain.attribute_filters import Filter, Page
from muster.domain.groups import Group
from muster.domain.projects import Project
from muster.domain.roles import Implication, Role
from muster.domain.users import Login, User
from muster.store import application_credentials as credential_store
from muster.store import assignments as assignment_store
from muster.store import groups as group_store
from muster.store import projects as project_store
from muster.store import roles as role_store
from muster.store import users as user_store
from muster.store.assignments import AssignmentFilter
from muster.store.engine import Database, Violation
from muster.store.projects import TagFilter
from muster.store.violations import FOREIGN_KEY


def domain(name: str) -> Project:
    return Project(id=f"d-{name}", name=name, domain_id=None, parent_id=None, is_domain=True)


def project(name: str, domain_id: str = "d-a", parent_id: str = "d-a", tags: Sequence[str] = ()) -> Project:
    return Project(id=f"p-{name}", name=name, domain_id=domain_id, parent_id=parent_id, tags=tuple(tags))


def user(name: str, domain_id: str = "d-a") -> User:
    return User(id=f"u-{name}", name=name, domain_id=domain_id, extra={"email": f"{name}@example.org"})


@pytest.fixture
async def cloud(database: Database) -> Database:
    """A domain with a project, a user, a group and two roles."""
    async with database.write() as connection:
        await project_store.insert(connection, [domain("a")])
        await project_store.insert(connection, [project("one")])
        await user_store.insert(connection, [Login(user("alice"), "hash"), Login(user("bob"), None)])
        await group_store.insert(connection, [Group(id="g", name="crew", domain_id="d-a")])
        await role_store.insert(connection, [Role(id="r1", name="boss"), Role(id="r2", name="clerk")])
    return database


async def refused(database: Database, module: object, value: object) -> str:
    with pytest.raises(Violation) as caught:
        async with database.write() as connection:
            await module.insert(connection, [value])  # type: ignore[attr-defined]
    return caught.value.constraint


async def test_what_comes_back_is_what_went_in(cloud: Database) -> None:
    whole = Project(
        id="p-x",
        name="x",
        domain_id="d-a",
        parent_id="p-one",
        enabled=False,
        description="a thing",
        tags=("a", "b"),
        options={"immutable": True},
        extra={"n": [1, {"ü": None}]},
    )
    async with cloud.write() as connection:
        await project_store.insert(connection, [whole])
        assert (await project_store.read(connection, ["p-x", "nothing"])) == {"p-x": whole}
        assert await project_store.find(connection, "d-a", "x") == whole
        assert await project_store.find(connection, None, "a") == domain("a")
        login = await user_store.find_login(connection, "d-a", "alice")
        assert login is not None
        assert login == await user_store.read_login(connection, "u-alice")
        assert (login.user, login.password_hash) == (user("alice"), "hash")
        assert await user_store.find_login(connection, "d-a", "nobody") is None


async def test_names_that_are_taken(cloud: Database) -> None:
    again = {"id": "other", "name": "one", "domain_id": "d-a"}
    assert await refused(cloud, project_store, Project(**again, parent_id="d-a")) == "uq_projects_domain_id_name"
    another_a = Project(id="other", name="a", domain_id=None, parent_id=None, is_domain=True)
    assert await refused(cloud, project_store, another_a) == "uq_projects_domains_name"
    twin = User(id="other", name="alice", domain_id="d-a")
    assert await refused(cloud, user_store, Login(twin, None)) == "uq_users_domain_id_name"
    assert await refused(cloud, group_store, Group(id="x", name="crew", domain_id="d-a")) == (
        "uq_user_groups_domain_id_name"
    )
    assert await refused(cloud, role_store, Role(id="x", name="boss")) == "uq_roles_global_name"
    async with cloud.write() as connection:  # the same names elsewhere
        await project_store.insert(connection, [domain("b")])
        await project_store.insert(connection, [Project(id="x", name="a", domain_id="d-a", parent_id="d-a")])
        await user_store.insert(connection, [Login(User(id="x", name="alice", domain_id="d-b"), None)])
        await role_store.insert(connection, [Role(id="x", name="boss", domain_id="d-b")])
    assert await refused(cloud, role_store, Role(id="y", name="boss", domain_id="d-b")) == "uq_roles_domain_id_name"


async def test_what_refers_to_nothing(cloud: Database) -> None:
    nobody = Grant(actor=Actor(ActorKind.USER, "no"), target=Target(TargetKind.PROJECT, "p-one"), role_id="r1")
    for module, value in (
        (project_store, project("x", domain_id="no")),
        (project_store, project("x", parent_id="no")),
        (user_store, Login(user("x", domain_id="no"), None)),
        (group_store, Group(id="x", name="x", domain_id="no")),
        (assignment_store, nobody),
    ):
        assert await refused(cloud, module, value) == FOREIGN_KEY


async def test_a_project_with_projects_below_stays(cloud: Database) -> None:
    async with cloud.write() as connection:
        await project_store.insert(connection, [project("below", parent_id="p-one")])
    with pytest.raises(Violation) as caught:
        async with cloud.write() as connection:
            await project_store.remove(connection, "p-one")
    assert caught.value.constraint == FOREIGN_KEY


async def test_a_domain_takes_all_of_it_along(cloud: Database) -> None:
    actor, target = Actor(ActorKind.USER, "u-alice"), Target(TargetKind.PROJECT, "p-below")
    credential = ApplicationCredential(id="c", name="c", user_id="u-alice", project_id="p-below", role_ids=("r1",))
    async with cloud.write() as connection:
        await project_store.insert(connection, [project("below", parent_id="p-one", tags=["t"])])
        await role_store.insert(connection, [Role(id="own", name="own", domain_id="d-a")])
        await role_store.add_implications(connection, [Implication("own", "r1")])
        await group_store.add_member(connection, "g", "u-alice")
        await assignment_store.insert(connection, [Grant(actor=actor, target=target, role_id="r1")])
        await credential_store.insert(connection, [CredentialLogin(credential, "hash")])

    async with cloud.write() as connection:
        assert await project_store.remove(connection, "d-a")
        assert not await project_store.remove(connection, "d-a")
        assert await project_store.read(connection, ["d-a", "p-one", "p-below"]) == {}
        assert await user_store.read(connection, ["u-alice"]) == {}
        assert await group_store.read(connection, ["g"]) == {}
        assert set(await role_store.read(connection, ["own", "r1"])) == {"r1"}
        assert await role_store.read_implications(connection) == []
        assert await assignment_store.read(connection, AssignmentFilter()) == []
        assert await credential_store.read_login(connection, "c") is None


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (Filter("name", "Web-1"), ["Web-1"]),
        (Filter("name", "web-1"), []),
        (Filter("name", "eb", "contains"), ["Web-1", "web_2"]),
        (Filter("name", "EB", "contains"), []),
        (Filter("name", "EB", "contains", True), ["Web-1", "web_2"]),
        (Filter("name", "_", "contains"), ["web_2"]),
        (Filter("name", "%", "contains"), ["db%3"]),
        (Filter("name", "we", "startswith"), ["web_2"]),
        (Filter("name", "we", "startswith", True), ["Web-1", "web_2"]),
        (Filter("name", "3", "endswith"), ["db%3"]),
        (Filter("name", "a long name that ends in db%3", "endswith"), []),
        (Filter("name", "", "contains"), ["Web-1", "db%3", "web_2"]),
        (Filter("default_project_id", None), ["Web-1", "db%3", "web_2"]),
        (Filter("enabled", False), ["db%3"]),
    ],
)
async def test_filters(database: Database, item: Filter, expected: list[str]) -> None:
    async with database.write() as connection:
        await project_store.insert(connection, [domain("a")])
        made = [
            User(id=name, name=name, domain_id="d-a", enabled="db" not in name) for name in ("Web-1", "web_2", "db%3")
        ]
        await user_store.insert(connection, [Login(one, None) for one in made])
        found = await user_store.read_listing(connection, [item], Page())
    assert sorted(one.name for one in found.items) == expected


async def test_pages(cloud: Database) -> None:
    async with cloud.write() as connection:
        await user_store.insert(connection, [Login(user(f"{number:03}"), None) for number in range(25)])
        seen: list[str] = []
        page = Page(10)
        while True:
            found = await user_store.read_listing(connection, [], page)
            seen += [one.id for one in found.items]
            if not found.has_more:
                break
            page = Page(10, seen[-1])
    assert len(seen) == len(set(seen)) == 27
    assert seen == sorted(seen)


async def test_tags(cloud: Database) -> None:
    made = [project("red", tags=["colour", "red"]), project("blue", tags=["colour", "blue"])]

    async def found(tags: TagFilter) -> list[str]:
        async with cloud.read() as connection:
            listing = await project_store.read_listing(connection, [], Page(), is_domain=False, tags=tags)
        return sorted(one.name for one in listing.items)

    async with cloud.write() as connection:
        await project_store.insert(connection, made)
    assert await found(TagFilter()) == ["blue", "one", "red"]
    assert await found(TagFilter(all_of=["colour", "red"])) == ["red"]
    assert await found(TagFilter(any_of=["blue", "red"])) == ["blue", "red"]
    assert await found(TagFilter(not_all_of=["colour", "red"])) == ["blue", "one"]
    assert await found(TagFilter(not_any_of=["blue", "red"])) == ["one"]
    async with cloud.write() as connection:
        await project_store.save(connection, project("red", tags=["green"]))
    assert await found(TagFilter(any_of=["red", "green"])) == ["red"]
    assert await found(TagFilter(any_of=["red"])) == []


async def test_memberships(cloud: Database) -> None:
    async with cloud.write() as connection:
        for _ in range(2):
            await group_store.add_member(connection, "g", "u-alice")
        await group_store.add_member(connection, "g", "u-bob")
        assert await group_store.read_member_ids(connection, ["g"]) == {"g": ["u-alice", "u-bob"]}
        assert await group_store.has_member(connection, "g", "u-bob")
        members = await group_store.read_members(connection, "g", [Filter("name", "bob")], Page())
        assert [one.id for one in members.items] == ["u-bob"]
        assert await group_store.remove_member(connection, "g", "u-bob")
        assert not await group_store.remove_member(connection, "g", "u-bob")
        groups = await group_store.read_listing(connection, [], Page(), "u-alice")
        assert [one.id for one in groups.items] == ["g"]
        assert await group_store.read_group_ids(connection, "u-bob") == []


async def test_assignments(cloud: Database) -> None:
    alice, crew = Actor(ActorKind.USER, "u-alice"), Actor(ActorKind.GROUP, "g")
    one, a, everything = (
        Target(TargetKind.PROJECT, "p-one"),
        Target(TargetKind.DOMAIN, "d-a"),
        Target(TargetKind.SYSTEM),
    )
    grants = [
        Grant(actor=alice, target=one, role_id="r1"),
        Grant(actor=alice, target=everything, role_id="r2"),
        Grant(actor=crew, target=one, role_id="r2"),
        Grant(actor=crew, target=a, role_id="r1", inherited=True),
        Grant(actor=crew, target=a, role_id="r1"),
    ]

    async def read(**wanted: object) -> set[Grant]:
        async with cloud.read() as connection:
            found = await assignment_store.read(connection, AssignmentFilter(**wanted))  # type: ignore[arg-type]
        assert len(found) == len(set(found))
        return set(found)

    async with cloud.write() as connection:
        await group_store.add_member(connection, "g", "u-alice")
        for _ in range(2):
            await assignment_store.insert(connection, grants)
    assert await read() == set(grants)
    assert await read(user_id="u-alice") == set(grants[:2])
    assert await read(user_id="u-alice", with_groups=True) == set(grants)
    assert await read(group_id="g") == set(grants[2:])
    assert await read(target_kind=TargetKind.SYSTEM) == {grants[1]}
    assert await read(target_ids=["p-one"]) == {grants[0], grants[2]}
    assert await read(target_ids=["p-one"], above_ids=["d-a"]) == {grants[0], grants[2], grants[3]}
    assert await read(role_id="r2", inherited=False) == {grants[1], grants[2]}
    async with cloud.write() as connection:
        assert await assignment_store.exists(connection, grants[3])
        assert await assignment_store.remove(connection, grants[3])
        assert not await assignment_store.remove(connection, grants[3])
        assert not await assignment_store.exists(connection, grants[3])
        assert await role_store.remove(connection, "r1")
    assert await read() == {grants[1], grants[2]}
