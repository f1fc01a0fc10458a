"""A token with the names of everything it is about, read afresh: what `GET /auth/tokens` shows."""

from collections.abc import Sequence
from typing import NoReturn

from msgspec import Struct

from muster.base.errors import Unauthenticated
from muster.base.log import get_logger
from muster.domain.application_credentials import ApplicationCredential
from muster.domain.catalog import CatalogService, Endpoint
from muster.domain.projects import Project
from muster.domain.roles import Role
from muster.domain.tokens import Token
from muster.domain.users import User
from muster.services.token_authority import DENIED
from muster.store import application_credentials as credential_store
from muster.store import catalog as catalog_store
from muster.store import projects as project_store
from muster.store import roles as role_store
from muster.store import users as user_store
from muster.store.engine import Connection

log = get_logger(__name__)


class TokenView(Struct, frozen=True, kw_only=True):
    """A token with the names of what it is about, as they are now."""

    token: Token
    user: User
    user_domain: Project
    project: Project | None = None
    domain: Project | None = None  # the scope's domain, or the project's
    roles: Sequence[Role] = ()
    credential: ApplicationCredential | None = None
    services: Sequence[CatalogService] = ()
    endpoints: Sequence[Endpoint] = ()


def deny(reason: str, user_id: str | None) -> NoReturn:
    """Refuse to authenticate. The reason goes to the log alone: it would help an attacker more than a user.

    Raises Unauthenticated.
    """
    log.info("authentication refused", action="identity.denied", reason=reason, user_id=user_id)
    raise Unauthenticated(DENIED)


async def describe(connection: Connection, token: Token) -> TokenView:
    """The view of a token. Up to seven queries.

    Raises Unauthenticated if somebody or something it is about is disabled or gone.
    """
    user = (await user_store.read(connection, [token.user_id])).get(token.user_id)
    scope_id = token.project_id or token.domain_id
    wanted = {one for one in (token.user_domain_id, scope_id, token.project_domain_id) if one}
    found = await project_store.read(connection, wanted)
    user_domain, scope = found.get(token.user_domain_id), found.get(scope_id or "")
    if user is None or user_domain is None or not user.enabled:
        deny("the user or its domain is gone, or the user is disabled", token.user_id)
    if (scope_id and scope is None) or not all(one.enabled for one in found.values()):
        deny("the scope is gone, or the scope or a domain is disabled", token.user_id)
    roles = (await role_store.find(connection, token.roles)).values() if token.roles else ()
    services, endpoints = await catalog_store.read_all(connection) if scope or token.system else ([], [])
    return TokenView(
        token=token,
        user=user,
        user_domain=user_domain,
        project=scope if token.project_id else None,
        domain=scope if token.domain_id else found.get(token.project_domain_id),
        roles=sorted(roles, key=lambda role: role.name),
        credential=await _read_credential(connection, token.application_credential_id),
        services=services,
        endpoints=endpoints,
    )


async def _read_credential(connection: Connection, credential_id: str | None) -> ApplicationCredential | None:
    if credential_id is None:
        return None
    login = await credential_store.read_login(connection, credential_id)
    return login.credential if login else None
