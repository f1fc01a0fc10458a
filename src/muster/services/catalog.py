"""The service catalog: regions, services and endpoints."""

from collections.abc import Sequence

from msgspec import UNSET

from muster.base.errors import Conflict, Forbidden, Invalid, NotFound
from muster.base.ids import new_hex
from muster.domain.attribute_filters import Filter, Listing, Page
from muster.domain.catalog import CatalogService, Endpoint, Region
from muster.domain.patches import EndpointPatch, RegionPatch, ServicePatch, changed
from muster.services.redecide import redeciding_calls
from muster.services.refusals import refusing
from muster.store import catalog as store
from muster.store.engine import Connection, Database

_ONE = Page(1)


class Catalog:
    """Use cases about the catalog. Each costs one or two queries, or a transaction where it changes something.

    Who changes something holds it from before it is read: of two that change different attributes both come true.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    async def list_regions(self, filters: Sequence[Filter], page: Page) -> Listing[Region]:
        """A page of regions."""
        async with self._db.read() as connection:
            return await store.read_regions(connection, filters, page)

    async def show_region(self, region_id: str) -> Region:
        """A region. Raises NotFound."""
        async with self._db.read() as connection:
            return await _region(connection, region_id)

    @redeciding_calls("catalog")
    async def create_region(self, patch: RegionPatch) -> Region:
        """A new region, by its own id or a random one. Raises Conflict, Invalid for a parent that is none."""
        region_id = patch.id if patch.id is not UNSET else new_hex()
        region = _changed_region(Region(id=region_id), patch)
        with refusing("region", region_id, gone=Invalid(f"Could not find region: {region.parent_region_id}.")):
            async with self._db.write() as connection:
                await store.insert(connection, [region])
                await _check_circle(connection, region)
        return region

    @redeciding_calls("catalog")
    async def update_region(self, region_id: str, patch: RegionPatch) -> Region:
        """Change a region. Raises NotFound, Invalid for a parent that does not exist or a circle."""
        with refusing("region", gone=Invalid("Could not find the parent region.")):
            async with self._db.write() as connection:
                await store.hold_regions(connection)  # all of them: two that change at once may close a circle
                region = _changed_region(await _region(connection, region_id), patch)
                await _check_circle(connection, region)
                await store.save(connection, region)
        return region

    @redeciding_calls("catalog")
    async def delete_region(self, region_id: str) -> None:
        """Delete a region. Raises NotFound, Forbidden while something is in it."""
        used = Forbidden(f"Unable to delete region {region_id} because it or its child regions have endpoints.")
        with refusing("region", gone=used):
            async with self._db.write() as connection:
                if not await store.remove(connection, Region, region_id):
                    raise NotFound(f"Could not find region: {region_id}.")

    async def list_services(self, filters: Sequence[Filter], page: Page) -> Listing[CatalogService]:
        """A page of services."""
        async with self._db.read() as connection:
            return await store.read_services(connection, filters, page)

    async def show_service(self, service_id: str) -> CatalogService:
        """A service. Raises NotFound."""
        async with self._db.read() as connection:
            return await _service(connection, service_id)

    @redeciding_calls("catalog")
    async def create_service(self, patch: ServicePatch) -> CatalogService:
        """A new service. Raises Invalid without a type."""
        if patch.type is UNSET:
            raise Invalid("'type' is a required property")
        service = _changed_service(CatalogService(id=new_hex(), type=patch.type), patch)
        async with self._db.write() as connection:
            await store.insert(connection, [service])
        return service

    @redeciding_calls("catalog")
    async def update_service(self, service_id: str, patch: ServicePatch) -> CatalogService:
        """Change a service. Raises NotFound."""
        async with self._db.write() as connection:
            await store.hold(connection, CatalogService, service_id)
            service = _changed_service(await _service(connection, service_id), patch)
            await store.save(connection, service)
        return service

    @redeciding_calls("catalog")
    async def delete_service(self, service_id: str) -> None:
        """Delete a service with its endpoints. Raises NotFound."""
        async with self._db.write() as connection:
            if not await store.remove(connection, CatalogService, service_id):
                raise NotFound(f"Could not find service: {service_id}.")

    async def list_endpoints(self, filters: Sequence[Filter], page: Page) -> Listing[Endpoint]:
        """A page of endpoints."""
        async with self._db.read() as connection:
            return await store.read_endpoints(connection, filters, page)

    async def show_endpoint(self, endpoint_id: str) -> Endpoint:
        """An endpoint. Raises NotFound."""
        async with self._db.read() as connection:
            return await _endpoint(connection, endpoint_id)

    @redeciding_calls("catalog")
    async def create_endpoint(self, patch: EndpointPatch) -> Endpoint:
        """A new endpoint; its region is made if it is named by `region`. Raises Invalid for a service not there."""
        if patch.service_id is UNSET or patch.interface is UNSET or patch.url is UNSET:
            raise Invalid("'service_id', 'interface' and 'url' are required properties")
        empty = Endpoint(id=new_hex(), service_id=patch.service_id, interface=patch.interface, url=patch.url)
        endpoint = _changed_endpoint(empty, patch)
        with refusing("endpoint", gone=Invalid("Could not find the service or region of the endpoint.")):
            async with self._db.write() as connection:
                await _ensure_region(connection, patch)
                await store.insert(connection, [endpoint])
        return endpoint

    @redeciding_calls("catalog")
    async def update_endpoint(self, endpoint_id: str, patch: EndpointPatch) -> Endpoint:
        """Change an endpoint. Raises NotFound, Invalid for a service or region that does not exist."""
        with refusing("endpoint", gone=Invalid("Could not find the service or region of the endpoint.")):
            async with self._db.write() as connection:
                await store.hold(connection, Endpoint, endpoint_id)
                endpoint = _changed_endpoint(await _endpoint(connection, endpoint_id), patch)
                await _ensure_region(connection, patch)
                await store.save(connection, endpoint)
        return endpoint

    @redeciding_calls("catalog")
    async def delete_endpoint(self, endpoint_id: str) -> None:
        """Delete an endpoint. Raises NotFound."""
        async with self._db.write() as connection:
            if not await store.remove(connection, Endpoint, endpoint_id):
                raise NotFound(f"Could not find endpoint: {endpoint_id}.")


async def _region(connection: Connection, region_id: str) -> Region:
    found = (await store.read_regions(connection, [Filter("id", region_id)], _ONE)).items
    if not found:
        raise NotFound(f"Could not find region: {region_id}.")
    return found[0]


async def _service(connection: Connection, service_id: str) -> CatalogService:
    found = (await store.read_services(connection, [Filter("id", service_id)], _ONE)).items
    if not found:
        raise NotFound(f"Could not find service: {service_id}.")
    return found[0]


async def _endpoint(connection: Connection, endpoint_id: str) -> Endpoint:
    found = (await store.read_endpoints(connection, [Filter("id", endpoint_id)], _ONE)).items
    if not found:
        raise NotFound(f"Could not find endpoint: {endpoint_id}.")
    return found[0]


async def _check_circle(connection: Connection, region: Region) -> None:
    above = region.parent_region_id
    while above is not None:
        if above == region.id:
            raise Invalid("A region must not be its own parent")
        found = (await store.read_regions(connection, [Filter("id", above)], _ONE)).items
        above = found[0].parent_region_id if found else None


async def _ensure_region(connection: Connection, patch: EndpointPatch) -> None:
    if patch.region and not (await store.read_regions(connection, [Filter("id", patch.region)], _ONE)).items:
        await store.insert(connection, [Region(id=patch.region)])


def _changed_region(old: Region, patch: RegionPatch) -> Region:
    if patch.id is not UNSET and patch.id != old.id:
        raise Conflict("Cannot change the id of a region")
    description = (patch.description or "") if patch.description is not UNSET else UNSET
    extra = {**old.extra, **patch.extra}
    return changed(old, description=description, parent_region_id=patch.parent_region_id, extra=extra)


def _changed_service(old: CatalogService, patch: ServicePatch) -> CatalogService:
    name = (patch.name or "") if patch.name is not UNSET else UNSET
    return changed(old, type=patch.type, name=name, enabled=patch.enabled, extra={**old.extra, **patch.extra})


def _changed_endpoint(old: Endpoint, patch: EndpointPatch) -> Endpoint:
    return changed(
        old,
        service_id=patch.service_id,
        interface=patch.interface,
        url=patch.url,
        region_id=patch.region_id if patch.region_id is not UNSET else patch.region,
        enabled=patch.enabled,
        extra={**old.extra, **patch.extra},
    )
