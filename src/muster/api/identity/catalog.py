"""`/v3/regions`, `/v3/services` and `/v3/endpoints`."""

from typing import Any

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.identity import views
from muster.api.identity.bodies import read_member, read_patch, typed
from muster.domain.attribute_filters import parse_filters, parse_page
from muster.domain.catalog import ENDPOINT_FILTERS, REGION_FILTERS, SERVICE_FILTERS
from muster.domain.patches import EndpointPatch, RegionPatch, ServicePatch
from muster.services.catalog import Catalog


class Regions:
    """`/v3/regions`."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def create(self, request: Request) -> Response:
        """`POST /v3/regions`, and `PUT /v3/regions/{region_id}`."""
        region = await self._catalog.create_region(await _region_patch(request))
        return Response({"region": views.region(request, region)}, status=201)

    async def list(self, request: Request) -> Response:
        """`GET /v3/regions`."""
        filters = parse_filters(request.query, REGION_FILTERS)
        found = await self._catalog.list_regions(filters, parse_page(request.query))
        return views.collection(request, "regions", found, views.region)

    async def show(self, request: Request) -> Response:
        """`GET /v3/regions/{region_id}`."""
        region = await self._catalog.show_region(request.parameters["region_id"])
        return Response({"region": views.region(request, region)})

    async def update(self, request: Request) -> Response:
        """`PATCH /v3/regions/{region_id}`."""
        patch = await _region_patch(request)
        region = await self._catalog.update_region(request.parameters["region_id"], patch)
        return Response({"region": views.region(request, region)})

    async def delete(self, request: Request) -> Response:
        """`DELETE /v3/regions/{region_id}`."""
        await self._catalog.delete_region(request.parameters["region_id"])
        return Response(status=204)


async def _region_patch(request: Request) -> RegionPatch:
    # Unlike elsewhere, the client chooses the id.
    member = await read_member(request, "region")
    known: dict[str, Any] = {key: member[key] for key in ("description", "parent_region_id") if key in member}
    region_id = request.parameters.get("region_id") or member.get("id")
    if region_id is not None:
        known["id"] = region_id
    extra = {key: value for key, value in member.items() if key not in {*known, "id", "links"}}
    return typed({**known, "extra": extra}, RegionPatch, "region")


class ServicesApi:
    """`/v3/services`."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def create(self, request: Request) -> Response:
        """`POST /v3/services`."""
        service = await self._catalog.create_service(await read_patch(request, "service", ServicePatch))
        return Response({"service": views.service(request, service)}, status=201)

    async def list(self, request: Request) -> Response:
        """`GET /v3/services`."""
        filters = parse_filters(request.query, SERVICE_FILTERS)
        found = await self._catalog.list_services(filters, parse_page(request.query))
        return views.collection(request, "services", found, views.service)

    async def show(self, request: Request) -> Response:
        """`GET /v3/services/{service_id}`."""
        service = await self._catalog.show_service(request.parameters["service_id"])
        return Response({"service": views.service(request, service)})

    async def update(self, request: Request) -> Response:
        """`PATCH /v3/services/{service_id}`."""
        patch = await read_patch(request, "service", ServicePatch)
        service = await self._catalog.update_service(request.parameters["service_id"], patch)
        return Response({"service": views.service(request, service)})

    async def delete(self, request: Request) -> Response:
        """`DELETE /v3/services/{service_id}`."""
        await self._catalog.delete_service(request.parameters["service_id"])
        return Response(status=204)


class Endpoints:
    """`/v3/endpoints`."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def create(self, request: Request) -> Response:
        """`POST /v3/endpoints`."""
        endpoint = await self._catalog.create_endpoint(await read_patch(request, "endpoint", EndpointPatch))
        return Response({"endpoint": views.endpoint(request, endpoint)}, status=201)

    async def list(self, request: Request) -> Response:
        """`GET /v3/endpoints`."""
        filters = parse_filters(request.query, ENDPOINT_FILTERS)
        found = await self._catalog.list_endpoints(filters, parse_page(request.query))
        return views.collection(request, "endpoints", found, views.endpoint)

    async def show(self, request: Request) -> Response:
        """`GET /v3/endpoints/{endpoint_id}`."""
        endpoint = await self._catalog.show_endpoint(request.parameters["endpoint_id"])
        return Response({"endpoint": views.endpoint(request, endpoint)})

    async def update(self, request: Request) -> Response:
        """`PATCH /v3/endpoints/{endpoint_id}`."""
        patch = await read_patch(request, "endpoint", EndpointPatch)
        endpoint = await self._catalog.update_endpoint(request.parameters["endpoint_id"], patch)
        return Response({"endpoint": views.endpoint(request, endpoint)})

    async def delete(self, request: Request) -> Response:
        """`DELETE /v3/endpoints/{endpoint_id}`."""
        await self._catalog.delete_endpoint(request.parameters["endpoint_id"])
        return Response(status=204)
