"""Migrations of servers between hosts: none is ever made here, so the list is empty, in any of its forms."""

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.http.routing import Route, Routes
from muster.domain.policies import Rule


async def index(_request: Request) -> Response:
    """All migrations there were."""
    return Response({"migrations": []})


def migration_routes() -> Routes:
    """Method and path to handler and rule."""
    return {("GET", "/v2.1/os-migrations"): Route(index, Rule.ADMIN)}
