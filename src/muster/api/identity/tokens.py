"""`/v3/auth`: tokens, and what the caller could get a token for."""

from typing import Any

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.identity import views
from muster.api.identity.authentication import read_ask
from muster.base.errors import Forbidden, NotFound
from muster.base.units import iso_us
from muster.domain.attribute_filters import Listing
from muster.domain.catalog import render_catalog
from muster.domain.policies import Rule, allows
from muster.domain.projects import Project
from muster.services.token_views import TokenView
from muster.services.tokens import Tokens

SUBJECT = "X-Subject-Token"


class AuthTokens:
    """`/v3/auth/*`."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def create(self, request: Request) -> Response:
        """`POST /v3/auth/tokens`: 201 with the token in a header."""
        issued = await self._tokens.issue(await read_ask(request))
        headers = {SUBJECT: issued.text, "Vary": "X-Auth-Token"}
        return Response(_view(request, issued.view), status=201, headers=headers)

    async def show(self, request: Request) -> Response:
        """`GET /v3/auth/tokens`: for its bearer, admins, readers of the system and services."""
        text = self._subject(request, or_roles=True)
        view = await self._tokens.show(text)
        return Response(_view(request, view), headers={SUBJECT: text, "Vary": "X-Auth-Token"})

    async def delete(self, request: Request) -> Response:
        """`DELETE /v3/auth/tokens`: for its bearer and admins."""
        await self._tokens.revoke(self._subject(request, or_roles=False))
        return Response(status=204)

    def _subject(self, request: Request, *, or_roles: bool) -> str:
        text = request.headers.get(SUBJECT)
        if not text:
            raise NotFound("No token in the request")
        context = request.context
        trusted = context.is_admin or (or_roles and ("service" in context.roles or allows(Rule.SYSTEM_READER, context)))
        if not trusted and self._tokens.subject(text).user_id != context.user_id:
            raise Forbidden("You are not authorized to perform the requested action: identity:validate_token.")
        return text

    async def projects(self, request: Request) -> Response:
        """`GET /v3/auth/projects`."""
        found = await self._tokens.reach(request.context.user_id)
        return views.collection(request, "projects", Listing(_by_name(found.projects)), views.project)

    async def domains(self, request: Request) -> Response:
        """`GET /v3/auth/domains`."""
        found = await self._tokens.reach(request.context.user_id)
        return views.collection(request, "domains", Listing(_by_name(found.domains)), views.domain)

    async def system(self, request: Request) -> Response:
        """`GET /v3/auth/system`."""
        found = await self._tokens.reach(request.context.user_id)
        return Response({"system": [{"all": True}] if found.system else [], "links": views.list_links(request)})

    async def catalog(self, request: Request) -> Response:
        """`GET /v3/auth/catalog`: for tokens that are scoped to a project."""
        context = request.context
        if context.project_id is None:
            raise Forbidden("A project-scoped token is required to produce a service catalog.")
        services, endpoints = await self._tokens.catalog()
        catalog = render_catalog(services, endpoints, views.host_url(request), context.project_id, context.user_id)
        return Response({"catalog": catalog, "links": views.list_links(request)})


def _by_name(projects: list[Project]) -> list[Project]:
    return sorted(projects, key=lambda project: (project.name, project.id))


def _domain(domain: Project) -> dict[str, Any]:
    return {"id": domain.id, "name": domain.name}


def _view(request: Request, view: TokenView) -> dict[str, Any]:
    token = view.token
    body: dict[str, Any] = {
        "methods": token.methods,
        "user": {
            "id": view.user.id,
            "name": view.user.name,
            "domain": _domain(view.user_domain),
            "password_expires_at": None,
        },
        "audit_ids": token.audit_ids,
        "issued_at": iso_us(token.issued_at_s),
        "expires_at": iso_us(token.expires_at_s),
    }
    body |= _scope(view)
    if view.credential is not None:
        body["application_credential"] = {
            "id": view.credential.id,
            "name": view.credential.name,
            "restricted": not view.credential.unrestricted,
        }
    if view.roles and "nocatalog" not in dict(request.query):
        body["catalog"] = render_catalog(
            view.services, view.endpoints, views.host_url(request), token.project_id, token.user_id
        )
    return {"token": body}


def _scope(view: TokenView) -> dict[str, Any]:
    scope: dict[str, Any] = {}
    if view.project is not None and view.domain is not None:
        project = {"id": view.project.id, "name": view.project.name, "domain": _domain(view.domain)}
        scope = {"project": project, "is_domain": False}
    elif view.domain is not None:
        scope = {"domain": _domain(view.domain)}
    elif view.token.system:
        scope = {"system": {"all": True}}
    if scope:
        scope["roles"] = [{"id": role.id, "name": role.name} for role in view.roles]
    return scope
