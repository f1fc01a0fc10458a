"""`/v3/users/{user_id}/application_credentials`."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.identity import views
from muster.api.identity.bodies import read_member, typed
from muster.base.errors import Invalid
from muster.base.units import parse_iso
from muster.domain.application_credentials import CREDENTIAL_FILTERS
from muster.domain.attribute_filters import parse_filters, parse_page
from muster.domain.patches import Name
from muster.domain.tokens import Token
from muster.services.application_credentials import ApplicationCredentials, CredentialAsk, RoleName
from muster.services.passwords import MAX_LENGTH
from muster.services.token_authority import TokenAuthority
from muster.services.users import require_self


class _Body(Struct, kw_only=True):
    name: Name
    description: str | None = None
    secret: Annotated[str, Meta(min_length=1, max_length=MAX_LENGTH)] | None = None
    expires_at: str | None = None
    roles: list[RoleName] | None = None
    unrestricted: bool | None = None
    access_rules: list[dict[str, Any]] | None = None

    def __repr__(self) -> str:
        return "_Body(...)"


class ApplicationCredentialsApi:
    """`/v3/users/{user_id}/application_credentials`."""

    def __init__(self, credentials: ApplicationCredentials, authority: TokenAuthority) -> None:
        self._credentials = credentials
        self._authority = authority

    async def create(self, request: Request) -> Response:
        """`POST`: 201 with the secret, which is never shown again."""
        user_id, token = request.parameters["user_id"], self._token(request)
        self._credentials.require_owner(request.context, user_id)
        ask = _ask(typed(await read_member(request, "application_credential"), _Body, "application_credential"))
        made = await self._credentials.create(request.context, token, user_id, ask)
        roles = await self._credentials.roles([made.credential])
        view = {**views.credential(request, made.credential, roles), "secret": made.secret}
        return Response({"application_credential": view}, status=201)

    async def list(self, request: Request) -> Response:
        """`GET`."""
        filters, page = parse_filters(request.query, CREDENTIAL_FILTERS), parse_page(request.query)
        found = await self._credentials.list_page(request.context, request.parameters["user_id"], filters, page)
        roles = await self._credentials.roles(found.items)
        return views.collection(
            request, "application_credentials", found, lambda request, one: views.credential(request, one, roles)
        )

    async def show(self, request: Request) -> Response:
        """`GET .../{credential_id}`."""
        user_id, credential_id = request.parameters["user_id"], request.parameters["credential_id"]
        credential = await self._credentials.show(request.context, user_id, credential_id)
        roles = await self._credentials.roles([credential])
        return Response({"application_credential": views.credential(request, credential, roles)})

    async def delete(self, request: Request) -> Response:
        """`DELETE .../{credential_id}`."""
        user_id, credential_id = request.parameters["user_id"], request.parameters["credential_id"]
        await self._credentials.delete(request.context, self._token(request), user_id, credential_id)
        return Response(status=204)

    async def access_rules(self, request: Request) -> Response:
        """`GET /v3/users/{user_id}/access_rules`: there are none."""
        require_self(request.context, request.parameters["user_id"], "identity:list_access_rules")
        return Response({"access_rules": [], "links": views.list_links(request)})

    def _token(self, request: Request) -> Token:
        return self._authority.token(request.headers["x-auth-token"])


def _ask(body: _Body) -> CredentialAsk:
    if body.access_rules:
        raise Invalid("Access rules are not offered")
    try:
        expires_at_s = None if body.expires_at is None else parse_iso(body.expires_at)
    except (ValueError, OverflowError) as error:
        raise Invalid("Invalid input for field 'expires_at': it is not a time in ISO 8601") from error
    return CredentialAsk(
        name=body.name,
        description=body.description,
        secret=body.secret,
        expires_at_s=expires_at_s,
        roles=body.roles,
        unrestricted=bool(body.unrestricted),
    )
