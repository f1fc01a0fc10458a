"""`/v3/domains`."""

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.identity import views
from muster.api.identity.bodies import read_new, read_patch
from muster.domain.attribute_filters import parse_filters, parse_page
from muster.domain.patches import ProjectPatch
from muster.services.domains import Domains


class DomainsApi:
    """`/v3/domains`."""

    def __init__(self, domains: Domains) -> None:
        self._domains = domains

    async def create(self, request: Request) -> Response:
        """`POST /v3/domains`."""
        domain = await self._domains.create(await read_new(request, "domain", ProjectPatch))
        return Response({"domain": views.domain(request, domain)}, status=201)

    async def list(self, request: Request) -> Response:
        """`GET /v3/domains`."""
        filters = parse_filters(request.query, ["id", "name"], ["enabled"])
        found = await self._domains.list_page(filters, parse_page(request.query))
        return views.collection(request, "domains", found, views.domain)

    async def show(self, request: Request) -> Response:
        """`GET /v3/domains/{domain_id}`."""
        domain = await self._domains.show(request.context, request.parameters["domain_id"])
        return Response({"domain": views.domain(request, domain)})

    async def update(self, request: Request) -> Response:
        """`PATCH /v3/domains/{domain_id}`."""
        patch = await read_patch(request, "domain", ProjectPatch)
        domain = await self._domains.update(request.parameters["domain_id"], patch)
        return Response({"domain": views.domain(request, domain)})

    async def delete(self, request: Request) -> Response:
        """`DELETE /v3/domains/{domain_id}`."""
        await self._domains.delete(request.parameters["domain_id"])
        return Response(status=204)
