"""The image API as an ASGI application."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from muster.api.http.application import Application, Authenticator, Hooks
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.image.absences import ABSENCES
from muster.api.image.html_errors import html_error
from muster.api.image.images import PATCH_TYPES
from muster.api.image.routes import Services, routes
from muster.base.clock import Clock
from muster.base.errors import MusterError, NotFound, Unauthenticated
from muster.domain.image_attributes import is_storable
from muster.domain.images import ImageSettings
from muster.services.image_files import ImageFiles
from muster.services.image_holders import ImageHolder
from muster.services.image_members import ImageMembers
from muster.services.image_uploads import ImageUploads
from muster.services.images import ImageService
from muster.store.engine import Database


class ImageHooks(Hooks):
    """Refuses text in the path that no database could hold, and says which patches are understood."""

    absences = ABSENCES

    def prepare(self, request: Request) -> None:
        """Raises NotFound for such a path."""
        if not all(map(is_storable, request.parameters.values())):
            raise NotFound("The resource could not be found.")

    def headers(self, request: Request) -> Mapping[str, str]:
        """`Accept-Patch` (RFC 5789) where patches are sent."""
        return {"Accept-Patch": ", ".join(PATCH_TYPES)} if request.method == "PATCH" else {}

    def error_response(self, request: Request, body: Any, status: HTTPStatus) -> Response:
        """In HTML to whoever names no JSON, as Glance: python-glanceclient fails on its errors in JSON."""
        if "message" not in body or _wants_json(request.headers.get("accept")):
            return super().error_response(request, body, status)
        return html_error(body["code"], body["message"], status)


def _wants_json(accept: str | None) -> bool:
    """Also who takes neither: openstacksdk with `Accept: ` reads JSON alone."""
    return accept is not None and ("json" in accept or not ("*" in accept or "html" in accept))


def error_body(error: MusterError, status: HTTPStatus) -> dict[str, Any]:
    """An error as Glance writes it. A missing or bad token is answered in the words of Keystone's middleware."""
    if isinstance(error, Unauthenticated):
        return {"error": {"code": status.value, "title": status.phrase, "message": error.message}}
    message = error.message or status.phrase
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        message = "The server has either erred or is incapable of performing the requested operation."
    return {"message": message, "code": f"{status.value} {status.phrase}", "title": status.phrase}


def application(services: Services, authenticator: Authenticator) -> Application:
    """The image API, to be mounted at `/image`."""
    return Application(
        "image", routes(services), authenticator=authenticator, error_body=error_body, hooks=ImageHooks(), strict=True
    )


def assemble(
    db: Database,
    clock: Clock,
    files: ImageFiles,
    settings: ImageSettings | None = None,
    holder: ImageHolder | None = None,
) -> Services:
    """The services of the image API over one database and one image folder. `holder`: it is its machine's own."""
    return Services(
        images=ImageService(db, clock, files, settings, holder),
        uploads=ImageUploads(db, clock, files, settings, holder),
        members=ImageMembers(db, clock, settings),
    )
