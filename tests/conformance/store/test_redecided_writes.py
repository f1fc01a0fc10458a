"""What administrators write is decided again, not refused, when PostgreSQL ends its transaction for a deadlock."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text

from muster.base.clock import system_clock
from muster.base.metrics import REDECIDED
from muster.domain.aggregates import NewAggregate
from muster.domain.assignments import Actor, ActorKind, Grant, Target, TargetKind
from muster.domain.flavors import Flavor
from muster.domain.groups import Group
from muster.domain.hypervisors import Hypervisor
from muster.domain.patches import ProjectPatch, RegionPatch, RolePatch
from muster.domain.projects import Project
from muster.domain.roles import Role
from muster.domain.server_groups import ServerGroup
from muster.domain.users import Login, User
from muster.services.aggregates import Aggregates
from muster.services.assignments import Assignments
from muster.services.catalog import Catalog
from muster.services.domains import Domains
from muster.services.flavors import Flavors
from muster.services.groups import Groups
from muster.services.hypervisors import Hypervisors
from muster.services.keypairs import Keypairs
from muster.services.passwords import Passwords
from muster.services.projects import Projects
from muster.services.quotas import Quotas
from muster.services.revocations import Revocations
from muster.services.roles import Roles
from muster.services.server_groups import ServerGroups
from muster.services.users import Users
from muster.store import commits
from muster.store import groups as group_store
from muster.store import hypervisors as host_store
from muster.store import projects as project_store
from muster.store import roles as role_store
from muster.store import users as user_store
from muster.store.engine import Database

from .compute_cloud import add_hosts
from .workers import ADMIN

# SQLite has one writer: there transactions follow each other.
pytestmark = pytest.mark.parametrize("database", ["postgresql"], indirect=True)

HANG_S = 300.0
_WAITING = text(
    "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
    " WHERE d.datname = current_database() AND NOT l.granted"
)

QUOTAS = Quotas({"server_groups": 10, "server_group_members": 10, "key_pairs": 10})
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBnqoZb9mCmvz1Xh6jJ8rWzKlCxYxjGvDcv3YyJ4rXkV"
GRANT = Grant(actor=Actor(ActorKind.USER, "u"), target=Target(TargetKind.PROJECT, "p"), role_id="r")


@pytest.fixture
async def revocations(database: Database) -> Revocations:
    """Of a domain `d` with a project `p`, a user `u` and a group `g`; there is a role `r` too, and a host `h`."""
    async with database.write() as connection:
        domain = Project(id="d", name="d", domain_id=None, parent_id=None, is_domain=True)
        await project_store.insert(connection, [domain])
        await project_store.insert(connection, [Project(id="p", name="p", domain_id="d", parent_id="d")])
        await user_store.insert(connection, [Login(User(id="u", name="u", domain_id="d"), None)])
        await group_store.insert(connection, [Group(id="g", name="g", domain_id="d")])
        await role_store.insert(connection, [Role(id="r", name="old")])
        await add_hosts(connection, "h")
    return Revocations(database, system_clock, token_lifetime_s=3_600.0)


async def _host(database: Database) -> Hypervisor:
    async with database.read() as connection:
        return (await host_store.read(connection, ["h"]))["h"]


async def _disable(database: Database) -> None:
    await Hypervisors(database, system_clock, 60.0).change(await _host(database), {"disabled": True})


def _group() -> ServerGroup:
    return ServerGroup(id="s", project_id="p", user_id="u", name="s", policy="affinity", created_at=1.0)


# By what is counted: the table that is written, and the call.
Call = Callable[[Database, Revocations], Awaitable[Any]]
CALLS: dict[str, tuple[str, Call]] = {
    "aggregates": (
        "aggregates",
        lambda database, _: Aggregates(database, system_clock).create(NewAggregate(uuid="a", name="a")),
    ),
    "hypervisors": ("hosts", lambda database, _: _disable(database)),
    "server_groups": (
        "server_groups",
        lambda database, _: ServerGroups(database, QUOTAS, system_clock).create(_group()),
    ),
    "keypairs": ("keypairs", lambda database, _: Keypairs(database, QUOTAS, system_clock).create(ADMIN, "a", "k", KEY)),
    "flavors": (
        "flavors",
        lambda database, _: Flavors(database, system_clock).create(Flavor(id="f", name="f", vcpus=1, ram_mib=1)),
    ),
    "users": (
        "users",
        lambda database, revocations: Users(database, revocations, Passwords(), system_clock).delete("u"),
    ),
    "groups": ("group_members", lambda database, revocations: Groups(database, revocations).add_member("g", "u")),
    "domains": (
        "projects",
        lambda database, revocations: Domains(database, revocations).update("d", ProjectPatch(enabled=False)),
    ),
    "projects": ("projects", lambda database, revocations: Projects(database, revocations).add_tag("p", "t")),
    "roles": ("roles", lambda database, revocations: Roles(database, revocations).update("r", RolePatch(name="new"))),
    "assignments": ("assignments", lambda database, revocations: Assignments(database, revocations).grant(GRANT)),
    "catalog": ("catalog_regions", lambda database, _: Catalog(database).create_region(RegionPatch(id="one"))),
}


def _decided_again(what: str) -> float:
    return float(REDECIDED.labels(what)._value.get())


@pytest.mark.parametrize("what", CALLS)
async def test_a_write_that_is_ended_in_a_deadlock(database, revocations, monkeypatch, what):
    table, call = CALLS[what]
    record, there, asked = commits.record, asyncio.Event(), asyncio.Event()

    async def stand_in_the_way() -> None:
        """Have what the write needs at its end, and ask for what it has; without looking for deadlocks."""
        async with database.hold() as connection:
            await connection.execute(text("SET LOCAL deadlock_timeout = '10min'"))
            await connection.execute(text("LOCK TABLE commits IN EXCLUSIVE MODE"))
            there.set()
            await asked.wait()
            await connection.execute(text(f"LOCK TABLE {table} IN EXCLUSIVE MODE"))

    async def record_late(connection):
        if not asked.is_set():
            asked.set()
            while not (await connection.execute(_WAITING)).scalar_one():
                await asyncio.sleep(0.01)
            await connection.execute(text("SET LOCAL deadlock_timeout = '10ms'"))
        return await record(connection)

    before = _decided_again(what)
    async with asyncio.timeout(HANG_S), asyncio.TaskGroup() as group:
        group.create_task(stand_in_the_way())
        await there.wait()
        monkeypatch.setattr(commits, "record", record_late)
        await call(database, revocations)
    assert _decided_again(what) == before + 1
