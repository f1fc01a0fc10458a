"""The identity API as an ASGI application."""

from http import HTTPStatus
from typing import Any

from muster.api.http.application import Application, Authenticator, Hooks
from muster.api.http.requests import Request
from muster.api.identity.absences import ABSENCES
from muster.api.identity.bodies import check_text
from muster.api.identity.routes import Services, routes
from muster.base.clock import Clock
from muster.base.errors import Invalid, MusterError, NotFound
from muster.services.application_credentials import ApplicationCredentials
from muster.services.assignments import Assignments
from muster.services.catalog import Catalog
from muster.services.domains import Domains
from muster.services.groups import Groups
from muster.services.passwords import Passwords
from muster.services.projects import Projects
from muster.services.revocations import Revocations
from muster.services.roles import Roles
from muster.services.token_authority import TokenAuthority
from muster.services.tokens import LIFETIME_S, Tokens
from muster.services.users import Users
from muster.store.engine import Database


class IdentityHooks(Hooks):
    """Refuses text in the path and the query that no database could hold."""

    absences = ABSENCES

    def prepare(self, request: Request) -> None:
        """Raises NotFound for such a path, Invalid for such a query."""
        try:
            for value in request.parameters.values():
                check_text(value)
        except Invalid as error:
            raise NotFound("The resource could not be found.") from error
        for name, value in request.query:
            check_text(name)
            check_text(value)


def error_body(error: MusterError, status: HTTPStatus) -> dict[str, Any]:
    """An error as Keystone writes it."""
    message = error.message or status.phrase
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        message = "An unexpected error prevented the server from fulfilling your request."
    return {"error": {"code": status.value, "message": message, "title": status.phrase}}


def application(services: Services, authenticator: Authenticator) -> Application:
    """The identity API, to be mounted at `/identity`."""
    return Application(
        "identity", routes(services), authenticator=authenticator, error_body=error_body, hooks=IdentityHooks()
    )


def assemble(
    db: Database,
    authority: TokenAuthority,
    revocations: Revocations,
    passwords: Passwords,
    clock: Clock,
    *,
    token_lifetime_s: float = LIFETIME_S,
) -> Services:
    """The services of the identity API over one database; `token_lifetime_s` as given to `revocations`."""
    return Services(
        authority=authority,
        tokens=Tokens(db, authority, revocations, passwords, clock, lifetime_s=token_lifetime_s),
        domains=Domains(db, revocations),
        projects=Projects(db, revocations),
        users=Users(db, revocations, passwords, clock),
        groups=Groups(db, revocations),
        roles=Roles(db, revocations),
        assignments=Assignments(db, revocations),
        application_credentials=ApplicationCredentials(db, revocations, passwords, clock),
        catalog=Catalog(db),
    )
