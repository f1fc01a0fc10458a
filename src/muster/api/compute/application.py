"""The compute API as an ASGI application."""

from http import HTTPStatus
from typing import Any

from starlette.types import Receive, Scope, Send

from muster.api.compute.microversions import Microversions
from muster.api.compute.routes import routes
from muster.api.compute.services import Services
from muster.api.compute.versions import without_microversions
from muster.api.http.application import Application, Authenticator
from muster.base.errors import MusterError, Unauthenticated

_NAMES = {
    HTTPStatus.BAD_REQUEST: "badRequest",
    HTTPStatus.FORBIDDEN: "forbidden",
    HTTPStatus.NOT_FOUND: "itemNotFound",
    HTTPStatus.METHOD_NOT_ALLOWED: "badMethod",
    HTTPStatus.CONFLICT: "conflictingRequest",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "overLimit",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "badMediaType",
    HTTPStatus.NOT_IMPLEMENTED: "notImplemented",
    HTTPStatus.SERVICE_UNAVAILABLE: "serviceUnavailable",
}


_MESSAGE_LIMIT = 1_000


def error_body(error: MusterError, status: HTTPStatus) -> dict[str, Any]:
    """An error as Nova writes it. A missing or bad token is answered in the words of Keystone's middleware."""
    if isinstance(error, Unauthenticated):
        return {"error": {"code": int(status), "title": status.phrase, "message": error.message}}
    message = error.message or status.phrase
    if len(message) > _MESSAGE_LIMIT:  # what was sent is not sent back whole
        message = message[:_MESSAGE_LIMIT] + "..."
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        message = "Unexpected API Error. The request id tells the operator where to look."
    return {_NAMES.get(status, "computeFault"): {"code": int(status), "message": message}}


class ComputeApplication(Application):
    """The compute API under both of its names, `/v2.1` and the old `/v2`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(without_microversions(scope), receive, send)


def application(services: Services, authenticator: Authenticator) -> Application:
    """The compute API, to be mounted at `/compute`."""
    return ComputeApplication(
        "compute",
        routes(services),
        authenticator=authenticator,
        error_body=error_body,
        hooks=Microversions(),
        strict=True,
    )
