"""Where hosts fetch images, with a ticket from the control plane in place of a user's token. Mounted at `/hosts`.

Other control machines do as well: they say so, and get what is here, so that no fetch makes another. And each asks its
own URL who is there (`services.image_place`).
"""

from http import HTTPStatus
from typing import Any

from muster.api.http.application import Application
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.http.routing import Route
from muster.api.image.files import content
from muster.base.errors import MusterError, Unauthenticated
from muster.base.image_download import HOLDER, TICKET
from muster.domain.context import Context
from muster.domain.policies import Rule
from muster.services.image_download import MACHINE, Identity
from muster.services.image_place import Place
from muster.services.image_tickets import ImageTickets
from muster.services.images import ImageService


class HostImages:
    """Content of images, for hosts. `identity`: whose."""

    def __init__(self, images: ImageService, tickets: ImageTickets, identity: Identity) -> None:
        self._images = images
        self._tickets = tickets
        self._identity = identity

    async def download(self, request: Request) -> Response:
        """`GET /images/{image_id}`: 200, 206 for a range; 403 without a ticket that is good, 404, 416.

        503 while it is fetched from another machine.
        """
        image_id = request.parameters["image_id"]
        self._tickets.check(image_id, request.headers.get(TICKET, ""))
        reader = await self._images.open_file(image_id, fetch=HOLDER not in request.headers)
        return content(None, reader, request.headers.get("range"))

    async def machine(self, request: Request) -> Response:
        """`GET /images/machine`: which machine this is; 403 without a ticket that is good."""
        self._tickets.check(MACHINE, request.headers.get(TICKET, ""))
        return Response(self._identity)


class _Nobody:
    """No token is good for anything here."""

    def context(self, token: str) -> Context:
        """Raises Unauthenticated."""
        raise Unauthenticated("Tokens are not taken here")


def application(images: ImageService, tickets: ImageTickets, place: Place | None = None) -> Application:
    """What hosts fetch, as an application of its own. `place`: where this machine has images of its own."""
    handlers = HostImages(images, tickets, place.identity if place else Identity(machine=""))
    return Application(
        "hosts",
        {
            ("GET", "/images/{image_id}"): Route(handlers.download, Rule.PUBLIC),
            ("GET", f"/images/{MACHINE}"): Route(handlers.machine, Rule.PUBLIC),
        },
        authenticator=_Nobody(),
        error_body=_error_body,
    )


def _error_body(error: MusterError, status: HTTPStatus) -> dict[str, Any]:
    is_bug = status is HTTPStatus.INTERNAL_SERVER_ERROR
    return {"message": status.phrase if is_bug else error.message or status.phrase, "code": status.value}
