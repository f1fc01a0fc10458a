"""The network API as an ASGI application."""

from muster.api.http.application import Application, Authenticator, Hooks
from muster.api.http.requests import Request
from muster.api.network.absences import ABSENCES
from muster.api.network.errors import error_body
from muster.api.network.routes import routes
from muster.api.network.services import Services
from muster.base.errors import NotFound
from muster.domain.network_errors import network_error


class NetworkHooks(Hooks):
    """A path with a NUL character names nothing, and no database must be asked for it. What shall be done to one
    revision only (Neutron's `revision-if-match`, which is not offered) is not done to any."""

    absences = ABSENCES

    def prepare(self, request: Request) -> None:
        if "\x00" in request.path:
            raise NotFound("The resource could not be found.", code="http.path")
        if "revision_number=" in request.headers.get("if-match", ""):
            raise network_error("HTTPNotImplemented", what="to change or delete what has a given revision (If-Match)")


def application(services: Services, authenticator: Authenticator) -> Application:
    """The application; its paths are relative to where it is mounted (`/network`)."""
    return Application(
        "network", routes(services), authenticator=authenticator, error_body=error_body, hooks=NetworkHooks()
    )
