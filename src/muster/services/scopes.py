"""Scopes: which project, domain or system a token is for, and the roles that it gets there."""

from collections.abc import Sequence

from msgspec import Struct

from muster.base.errors import Unauthenticated
from muster.domain.application_credentials import ApplicationCredential, is_usable
from muster.domain.assignments import Target, TargetKind
from muster.domain.authentication import DomainName, Named, ScopeAsk, ScopeKind
from muster.domain.projects import Project
from muster.domain.roles import Role
from muster.domain.users import Login, User
from muster.services.rights import expand_roles, read_roles
from muster.services.token_views import deny
from muster.store import application_credentials as credential_store
from muster.store import projects as project_store
from muster.store import users as user_store
from muster.store.engine import Connection


class Scope(Struct, frozen=True):
    """A scope with the roles there: a project's or domain's row, or the system, or nothing."""

    place: Project | None = None
    system: bool = False
    roles: Sequence[Role] = ()

    @property
    def project(self) -> Project | None:
        """The project, if it is one."""
        return self.place if self.place is not None and not self.place.is_domain else None

    @property
    def domain(self) -> Project | None:
        """The domain, if it is one."""
        return self.place if self.place is not None and self.place.is_domain else None


async def resolve_scope(connection: Connection, user: User, ask: ScopeAsk) -> Scope:
    """The scope that a user asks for. Raises Unauthenticated without a role there, or where it is disabled or gone.

    Up to seven queries.
    """
    if ask.kind is ScopeKind.UNSCOPED:
        return Scope()
    if ask.kind is ScopeKind.DEFAULT:
        return await _resolve_default(connection, user)
    if ask.kind is ScopeKind.SYSTEM:
        roles = await read_roles(connection, user.id, Target(TargetKind.SYSTEM))
        return Scope(system=True, roles=roles) if roles else deny("no role on the system", user.id)
    is_domain = ask.kind is ScopeKind.DOMAIN
    place = await find_place(connection, ask.target, is_domain=is_domain)
    if place is None:
        deny("the scope does not exist", user.id)
    return await _enter(connection, user, place)


async def _resolve_default(connection: Connection, user: User) -> Scope:
    if user.default_project_id is None:
        return Scope()
    place = (await project_store.read(connection, [user.default_project_id])).get(user.default_project_id)
    if place is None or place.is_domain:
        return Scope()
    try:
        return await _enter(connection, user, place)
    except Unauthenticated:
        return Scope()


async def _enter(connection: Connection, user: User, place: Project) -> Scope:
    above = (await project_store.read(connection, [place.domain_id])).values() if place.domain_id else ()
    if not place.enabled or not all(domain.enabled for domain in above):
        deny("the scope is disabled", user.id)
    kind = TargetKind.DOMAIN if place.is_domain else TargetKind.PROJECT
    roles = await read_roles(connection, user.id, Target(kind, place.id), None if place.is_domain else place)
    return Scope(place, False, roles) if roles else deny("no role in the scope", user.id)


async def resolve_credential_scope(
    connection: Connection, credential: ApplicationCredential, user: User, now: float
) -> Scope:
    """The scope of an application credential: its project, with its roles and what those imply.

    Raises Unauthenticated if it has expired or one of its roles was taken away. Up to eight queries.
    """
    place = (await project_store.read(connection, [credential.project_id])).get(credential.project_id)
    scope = await _enter(connection, user, place) if place is not None else Scope()
    if not is_usable(credential, {role.id for role in scope.roles}, now):
        deny("the application credential has expired, or a role was taken away", user.id)
    return Scope(place, False, await expand_roles(connection, credential.role_ids))


async def read_credential(connection: Connection, credential_id: str) -> ApplicationCredential:
    """An application credential that must be there. Raises Unauthenticated. One query."""
    login = await credential_store.read_login(connection, credential_id)
    return login.credential if login else deny("the application credential is gone", None)


async def find_place(connection: Connection, named: Named, *, is_domain: bool) -> Project | None:
    """A project or domain by its id, or by name (and domain). One or two queries."""
    if named.id is not None:
        place = (await project_store.read(connection, [named.id])).get(named.id)
        return place if place is not None and place.is_domain == is_domain else None
    if named.name is None:
        return None
    if is_domain:
        return await project_store.find(connection, None, named.name)
    domain_id = await find_domain_id(connection, named.domain)
    return await project_store.find(connection, domain_id, named.name) if domain_id else None


async def find_domain_id(connection: Connection, named: DomainName) -> str | None:
    """A domain's id by its id or name; one given by id is not looked up. At most one query."""
    if named.id is not None or named.name is None:
        return named.id
    domain = await project_store.find(connection, None, named.name)
    return domain.id if domain else None


async def find_login(connection: Connection, named: Named) -> Login | None:
    """A user by id, or by name and domain, with the password's hash. One or two queries."""
    if named.id is not None:
        return await user_store.read_login(connection, named.id)
    domain_id = await find_domain_id(connection, named.domain)
    if domain_id is None or named.name is None:
        return None
    return await user_store.find_login(connection, domain_id, named.name)
