"""The ASGI application of one API: route, authenticate, authorise, handle, and turn every error into the API's body.

Nothing gets past this: an error that nobody expected is logged in full and answered as a 500 without details.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, ClassVar, Protocol

from starlette.types import Receive, Scope, Send

from muster.api.http.absences import NO_RESOURCE, Absences, not_found
from muster.api.http.errors import status_of
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.http.routing import Handler, Router, Routes
from muster.base.errors import Bug, MusterError, NotFound, Transient, Unauthenticated
from muster.base.ids import new_request_id
from muster.base.log import get_logger
from muster.base.metrics import REQUESTS
from muster.domain.context import Context
from muster.domain.policies import Rule, allows, refused
from muster.services.redecide import redeciding

log = get_logger(__name__)

ANONYMOUS = Context(user_id="")
_READING = frozenset({"GET", "HEAD"})

ErrorBody = Callable[[MusterError, HTTPStatus], Any]


class Authenticator(Protocol):
    """Validates tokens in the process."""

    def context(self, token: str) -> Context:
        """The caller that `token` stands for. Raises Unauthenticated."""
        ...


class Hooks:
    """What an API adds around its handlers; the defaults add nothing. `absences` is what it has not, by path."""

    absences: ClassVar[Absences] = {}

    async def elsewhere(self, request: Request) -> Response:
        """The answer on a path that no route has."""
        raise not_found(request.path, self.absences)

    def prepare(self, request: Request) -> None:
        """Before the handler, once the caller is known: negotiate the microversion. May raise."""

    def headers(self, request: Request) -> Mapping[str, str]:
        """Headers for each response, errors included."""
        return {}

    def error_response(self, _request: Request, body: Any, status: HTTPStatus) -> Response:
        """An error, whose body is `body`, as it is sent."""
        return Response(body, status=status)


class Application:
    """One API under one prefix. `error_body` gives the JSON of an error; `strict` as for `Router`."""

    def __init__(
        self,
        name: str,
        routes: Routes,
        *,
        authenticator: Authenticator,
        error_body: ErrorBody,
        hooks: Hooks | None = None,
        strict: bool = False,
    ) -> None:
        self.name = name
        self.routes = routes
        self._router = Router(routes, strict=strict)
        self._authenticator = authenticator
        self._error_body = error_body
        self._hooks = hooks or Hooks()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = new_request_id()
        request = Request(scope, receive, parameters={}, context=ANONYMOUS)
        request.request_id = request_id
        try:
            response = await self._handle(request)
        except MusterError as error:
            response = self._failed(error, request)
        except Exception as error:  # the last resort: a user must never see a traceback
            log.exception("request failed", action="api.bug", api=self.name, path=scope["path"], request_id=request_id)
            response = self._failed(Bug("An unexpected error happened"), request, cause=error)
        REQUESTS.labels(self.name, scope["method"], response.status).inc()
        response.headers.update(self._hooks.headers(request))
        response.headers["X-Openstack-Request-Id"] = request_id
        if scope["method"] == "HEAD":
            response.headers.setdefault("Content-Length", str(len(response.body)))
            response.body = b""
        await response.send(send)

    async def _handle(self, request: Request) -> Response:
        """The handler's answer. What only reads is read again when the database went away in the middle of it."""
        handler = self._admit(request)
        if request.method in _READING:
            return await redeciding(f"api.{self.name}", lambda: handler(request))
        return await handler(request)

    def _admit(self, request: Request) -> Handler:
        match = None if "\x00" in request.path else self._router.match(request.path)
        if match is None:
            return self._hooks.elsewhere
        route = match.methods.get(request.method)
        if route is None:
            message = f"The method {request.method} is not allowed for this resource."
            raise NotFound(message, code="http.method", allow=", ".join(sorted(match.methods)))
        request.parameters = match.parameters
        if route.rule is not Rule.PUBLIC:
            request.context = self._authenticate(request)
        self._hooks.prepare(request)
        if not route.offered(request.version):
            raise NotFound(NO_RESOURCE, code="http.version")
        if not allows(route.rule, request.context):
            raise refused(route.rule, request.context)
        return route.handler

    def _authenticate(self, request: Request) -> Context:
        token = request.headers.get("x-auth-token")
        if not token:
            raise Unauthenticated("The request you have made requires authentication.")
        return self._authenticator.context(token)

    def _failed(self, error: MusterError, request: Request, cause: Exception | None = None) -> Response:
        status = status_of(error)
        if status is HTTPStatus.INTERNAL_SERVER_ERROR and cause is None:
            log.error("a bug", action="api.bug", api=self.name, error=error.message, request_id=request.request_id)
        response = self._hooks.error_response(request, self._error_body(error, status), status)
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            retry_after_s = error.retry_after_s if isinstance(error, Transient) else 0.0
            response.headers["Retry-After"] = str(max(1, round(retry_after_s)))
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            response.headers["Allow"] = str(error.details["allow"])
        if status is HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = "Keystone uri='/identity/v3'"
        return response
