"""Quotas over HTTP."""

from typing import Any

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.network.attributes import invalid_value, read_object
from muster.api.network.validators import boolean, integer
from muster.domain.network_errors import bad_request
from muster.services.network_quotas import RESOURCES, NetworkQuotas

_limit = integer(-1)


class Quotas:
    """Handlers."""

    def __init__(self, service: NetworkQuotas) -> None:
        self._service = service

    async def list(self, request: Request) -> Response:
        found = await self._service.all()
        views = [{**limits, "project_id": name, "tenant_id": name} for name, limits in found.items()]
        return Response({"quotas": views})

    async def show(self, request: Request) -> Response:
        return Response({"quota": await self._service.get(request.context, request.parameters["project_id"])})

    async def defaults(self, request: Request) -> Response:
        return Response({"quota": self._service.defaults(request.context, request.parameters["project_id"])})

    async def details(self, request: Request) -> Response:
        return Response({"quota": await self._service.details(request.context, request.parameters["project_id"])})

    async def update(self, request: Request) -> Response:
        limits, check_limit = _parse(await read_object(request))
        project_id = request.parameters["project_id"]
        quota = await self._service.update(request.context, project_id, limits, check_limit=check_limit)
        return Response({"quota": quota})

    async def delete(self, request: Request) -> Response:
        await self._service.reset(request.parameters["project_id"])
        return Response(status=204)

    async def project(self, request: Request) -> Response:
        """Whose quotas `/quotas/{id}` is about for this caller."""
        project_id = request.context.project_id
        return Response({"tenant": {"project_id": project_id, "tenant_id": project_id}})


def _parse(body: dict[str, Any]) -> tuple[dict[str, int], bool]:
    item = body.get("quota")
    if not isinstance(item, dict):
        raise bad_request("Unable to find 'quota' in request body")
    limits: dict[str, int] = {}
    flags = {"check_limit": False, "force": False}
    for name, value in item.items():
        try:
            if name in flags:
                flags[name] = boolean(value)
            elif name in RESOURCES:
                limits[name] = _limit(value)
            elif name not in ("project_id", "tenant_id"):
                raise bad_request(f"Unrecognized attribute(s) '{name[:80]}'")
        except ValueError as error:
            raise invalid_value(name, error) from error
    return limits, flags["check_limit"] and not flags["force"]
