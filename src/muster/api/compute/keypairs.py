"""Keypairs over HTTP."""

from typing import Any, Literal

from msgspec import Struct

from muster.api.compute.bodies import parse, unexpected
from muster.api.compute.paging import next_link, page_asked
from muster.api.compute.queries import asked
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.http.routing import Route, Routes
from muster.base.errors import Invalid
from muster.base.units import iso_plain
from muster.domain.keypairs import SSH, Keypair, check_name
from muster.domain.policies import Rule
from muster.services.keypairs import Keypairs

_TYPES, _USERS, _PAGES, _IMPORTED = (2, 2), (2, 10), (2, 35), (2, 92)


class KeypairBody(Struct, forbid_unknown_fields=True):
    """A keypair to be kept, or to be made if it has no public key."""

    name: str
    public_key: str | None = None
    type: Literal["ssh", "x509"] | None = None
    user_id: str | None = None


class CreateBody(Struct, forbid_unknown_fields=True):
    """The body of `POST /os-keypairs`."""

    keypair: KeypairBody


class KeypairHandlers:
    """Handlers of `/os-keypairs`."""

    def __init__(self, keypairs: Keypairs) -> None:
        self._keypairs = keypairs

    async def index(self, request: Request) -> Response:
        """A user's keypairs. Below 2.35 all of them, but to those who ask for a page: openstacksdk does, whatever the
        version, and goes round in circles where it is not heard."""
        query, paged = asked(request), request.version >= _PAGES
        page = page_asked(query) if paged or "limit" in query or "marker" in query else None
        limit, marker = (page.limit, page.marker) if page else (None, None)
        found = await self._keypairs.page(request.context, _user(request), limit=limit, marker=marker)
        links = next_link(request, "keypairs", found, page, found[-1].name) if page and paged and found else {}
        return Response({"keypairs": [{"keypair": _brief(request, one)} for one in found], **links})

    async def show(self, request: Request) -> Response:
        """One keypair."""
        keypair = await self._keypairs.get(request.context, _user(request), request.parameters["keypair_name"])
        shown = {
            **_brief(request, keypair),
            "id": int(keypair.fingerprint.replace(":", "")[:12], 16),
            "user_id": keypair.user_id,
            "created_at": iso_plain(keypair.created_at),
            "updated_at": None,
            "deleted": False,
            "deleted_at": None,
        }
        return Response({"keypair": shown})

    async def create(self, request: Request) -> Response:
        """Keep a public key, or make a pair and tell the private key this once."""
        body = (await parse(request, CreateBody)).keypair
        _check(request, body)
        user_id = body.user_id or request.context.user_id
        kind = body.type or SSH
        check_name(body.name, with_addresses=request.version >= _IMPORTED)
        made = await self._keypairs.create(request.context, user_id, body.name, body.public_key, kind)
        shown = {**_brief(request, made.keypair), "user_id": made.keypair.user_id}
        if made.private_key is not None:
            shown["private_key"] = made.private_key
        return Response({"keypair": shown}, status=201 if request.version >= _TYPES else 200)

    async def delete(self, request: Request) -> Response:
        """Forget a keypair."""
        await self._keypairs.delete(request.context, _user(request), request.parameters["keypair_name"])
        return Response(status=204 if request.version >= _TYPES else 202)


def keypair_routes(keypairs: Keypairs) -> Routes:
    """Method and path to handler and rule. Whoever works in a project has keys; whose they are, the service checks."""
    handlers = KeypairHandlers(keypairs)
    return {
        ("GET", "/v2.1/os-keypairs"): Route(handlers.index, Rule.PROJECT),
        ("POST", "/v2.1/os-keypairs"): Route(handlers.create, Rule.PROJECT),
        ("GET", "/v2.1/os-keypairs/{keypair_name}"): Route(handlers.show, Rule.PROJECT),
        ("DELETE", "/v2.1/os-keypairs/{keypair_name}"): Route(handlers.delete, Rule.PROJECT),
    }


def _brief(request: Request, keypair: Keypair) -> dict[str, Any]:
    shown = {"name": keypair.name, "public_key": keypair.public_key, "fingerprint": keypair.fingerprint}
    return shown | ({"type": keypair.type} if request.version >= _TYPES else {})


def _user(request: Request) -> str:
    """Whose keypairs the request is about: the caller's, or those that the query names."""
    query = asked(request) if request.version >= _USERS else {}
    return query.get("user_id", request.context.user_id)


def _check(request: Request, body: KeypairBody) -> None:
    for name, since in (("type", _TYPES), ("user_id", _USERS)):
        if getattr(body, name) is not None and request.version < since:
            raise unexpected(name)
    if body.public_key is None and request.version >= _IMPORTED:
        raise Invalid("Invalid input for field/attribute keypair. 'public_key' is a required property")
    if body.user_id is not None and not (0 < len(body.user_id) <= 64 and body.user_id.isprintable()):
        raise Invalid("Invalid input for field/attribute user_id: it is no user's id.")
