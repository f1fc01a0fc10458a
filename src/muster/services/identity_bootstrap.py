"""The first rows of a cloud: the domain, projects, roles and administrator that everything else is made with.

Invariant: running it again changes nothing that is there, but for the catalog's own entries, which follow the
settings.
"""

import uuid
from collections.abc import Sequence

from msgspec import Struct

from muster.base.clock import Clock, system_clock
from muster.base.ids import new_hex
from muster.domain import revocations as subjects
from muster.domain.assignments import Actor, ActorKind, Grant, Target, TargetKind
from muster.domain.attribute_filters import Filter, Page
from muster.domain.catalog import (
    DEFAULT_REGION,
    INTERFACES,
    CatalogEntry,
    CatalogService,
    Endpoint,
    Region,
    own_entries,
)
from muster.domain.projects import Project
from muster.domain.resource_options import IMMUTABLE
from muster.domain.roles import Implication, Role
from muster.domain.users import Login, User
from muster.services.domains import DEFAULT_DOMAIN_ID
from muster.services.passwords import Passwords
from muster.services.revocations import CLOCK_SKEW_S
from muster.services.tokens import LIFETIME_S
from muster.store import assignments as assignment_store
from muster.store import catalog as catalog_store
from muster.store import projects as project_store
from muster.store import revocations as revocation_store
from muster.store import roles as role_store
from muster.store import users as user_store
from muster.store.engine import Connection, Database, Violation

ROLES = ("admin", "manager", "member", "reader", "service")
IMPLICATIONS = (("admin", "manager"), ("manager", "member"), ("member", "reader"))

# Ids of the catalog's own entries are made of their type: every process comes to the same ones.
_NAMESPACE = uuid.UUID("2d6f3f0e-7a43-4f0c-9a35-3c1d0a4b5e77")


class BootstrapIds(Struct, frozen=True, kw_only=True):
    """What was made, or was there."""

    domain_id: str
    admin_project_id: str
    service_project_id: str
    admin_user_id: str
    role_ids: dict[str, str]


async def bootstrap(
    db: Database,
    *,
    admin_password: str,
    passwords: Passwords,
    clock: Clock = system_clock,
    catalog: Sequence[CatalogEntry] = own_entries(),
    reset_password: bool = False,
) -> BootstrapIds:
    """Make what is missing: domain `default`, projects `admin` and `service`, the roles, user `admin` with the role
    `admin` on its project and on the system, region `RegionOne` and the catalog's own entries.

    Safe to run in several processes at once. An administrator who is there keeps the password unless `reset_password`.
    One run of Argon2id and one transaction, two if another process was faster.
    """
    password_hash = await passwords.hash(admin_password)
    wanted = _Wanted(password_hash, reset_password, tuple(catalog), clock())
    for attempt in (1, 2):
        try:
            async with db.write() as connection:
                return await _make(connection, wanted)
        except Violation:  # another process made it in this very moment
            if attempt == 2:
                raise
    raise AssertionError("unreachable")


class _Wanted(Struct, frozen=True):
    password_hash: str
    reset_password: bool
    catalog: tuple[CatalogEntry, ...]
    now: float


async def _make(connection: Connection, wanted: _Wanted) -> BootstrapIds:
    await revocation_store.start_clock(connection)
    if DEFAULT_DOMAIN_ID not in await project_store.read(connection, [DEFAULT_DOMAIN_ID]):
        domain = Project(
            id=DEFAULT_DOMAIN_ID,
            name="Default",
            domain_id=None,
            parent_id=None,
            is_domain=True,
            description="The default domain",
        )
        await project_store.insert(connection, [domain])
    admin_project = await _project(connection, "admin", "Bootstrap project for initializing the cloud.")
    service_project = await _project(connection, "service", "Project of the cloud's own services.")
    role_ids = await _roles(connection)
    admin_id = await _admin(connection, wanted, admin_project)
    admin = Actor(ActorKind.USER, admin_id)
    targets = (Target(TargetKind.PROJECT, admin_project), Target(TargetKind.SYSTEM))
    grants = [Grant(actor=admin, target=target, role_id=role_ids["admin"]) for target in targets]
    await assignment_store.insert(connection, grants)
    await _catalog(connection, wanted.catalog)
    if wanted.reset_password:
        keep_s = LIFETIME_S + CLOCK_SKEW_S
        await revocation_store.record(connection, [subjects.of_user(admin_id)], wanted.now, wanted.now + keep_s)
    return BootstrapIds(
        domain_id=DEFAULT_DOMAIN_ID,
        admin_project_id=admin_project,
        service_project_id=service_project,
        admin_user_id=admin_id,
        role_ids=role_ids,
    )


async def _project(connection: Connection, name: str, description: str) -> str:
    found = await project_store.find(connection, DEFAULT_DOMAIN_ID, name)
    if found is not None:
        return found.id
    project = Project(
        id=new_hex(),
        name=name,
        domain_id=DEFAULT_DOMAIN_ID,
        parent_id=DEFAULT_DOMAIN_ID,
        description=description,
    )
    await project_store.insert(connection, [project])
    return project.id


async def _roles(connection: Connection) -> dict[str, str]:
    found = await role_store.find(connection, ROLES)
    missing = [Role(id=new_hex(), name=name, options={IMMUTABLE: True}) for name in ROLES if name not in found]
    role_ids = {role.name: role.id for role in (*found.values(), *missing)}
    if missing:
        await role_store.insert(connection, missing)
        new = {role.name for role in missing}
        rules = [Implication(role_ids[a], role_ids[b]) for a, b in IMPLICATIONS if {a, b} & new]
        if rules:
            await role_store.add_implications(connection, rules)
    return role_ids


async def _admin(connection: Connection, wanted: _Wanted, project_id: str) -> str:
    login = await user_store.find_login(connection, DEFAULT_DOMAIN_ID, "admin")
    if login is None:
        user = User(
            id=new_hex(),
            name="admin",
            domain_id=DEFAULT_DOMAIN_ID,
            default_project_id=project_id,
            created_at_s=wanted.now,
        )
        await user_store.insert(connection, [Login(user, wanted.password_hash)])
        return user.id
    if wanted.reset_password:
        await user_store.set_password(connection, login.user.id, wanted.password_hash)
    return login.user.id


async def _catalog(connection: Connection, entries: Sequence[CatalogEntry]) -> None:
    if not (await catalog_store.read_regions(connection, [Filter("id", DEFAULT_REGION)], Page(1))).items:
        await catalog_store.insert(connection, [Region(id=DEFAULT_REGION)])
    services, endpoints = await catalog_store.read_all(connection)
    known: dict[str, CatalogService | Endpoint] = {item.id: item for item in services}
    known.update((item.id, item) for item in endpoints)
    for entry in entries:
        for item in _items(entry):
            if item.id not in known:
                await catalog_store.insert(connection, [item])
            elif item != known[item.id]:
                await catalog_store.save(connection, item)


def _items(entry: CatalogEntry) -> list[CatalogService | Endpoint]:
    service_id = uuid.uuid5(_NAMESPACE, entry.type).hex
    service = CatalogService(id=service_id, type=entry.type, name=entry.name)
    return [
        service,
        *(
            Endpoint(
                id=uuid.uuid5(_NAMESPACE, f"{entry.type}/{interface}").hex,
                service_id=service_id,
                interface=interface,
                url=entry.url,
                region_id=DEFAULT_REGION,
            )
            for interface in INTERFACES
        ),
    ]
