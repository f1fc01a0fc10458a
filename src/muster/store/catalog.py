"""The service catalog: regions, services and endpoints."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, ForeignKey, String, Table, delete, select, update
from sqlalchemy import insert as insert_into
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.attribute_filters import Filter, Listing, Page
from muster.domain.catalog import CatalogService, Endpoint, Region
from muster.store.attribute_filters import conditions, read_page
from muster.store.columns import document, flag, identity_column, reference, text
from muster.store.dialects import hold_table
from muster.store.engine import metadata

catalog_regions = Table(
    "catalog_regions",
    metadata,
    Column("id", String(255), primary_key=True),
    text("description", default=""),
    Column("parent_region_id", String(255), ForeignKey("catalog_regions.id"), nullable=True),
    document("extra"),
)

catalog_services = Table(
    "catalog_services",
    metadata,
    identity_column(),
    Column("type", String(255), nullable=False),
    Column("name", String(255), nullable=False, default=""),
    flag("enabled", default=True),
    document("extra"),
)

catalog_endpoints = Table(
    "catalog_endpoints",
    metadata,
    identity_column(),
    reference("service_id", ForeignKey("catalog_services.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("interface", String(16), nullable=False),
    Column("region_id", String(255), ForeignKey("catalog_regions.id"), nullable=True),
    text("url"),
    flag("enabled", default=True),
    document("extra"),
)

Item = Region | CatalogService | Endpoint

_TABLES: dict[type, Table] = {
    Region: catalog_regions,
    CatalogService: catalog_services,
    Endpoint: catalog_endpoints,
}


def _region(row: Any) -> Region:
    return Region(id=row.id, description=row.description, parent_region_id=row.parent_region_id, extra=row.extra)


def _service(row: Any) -> CatalogService:
    return CatalogService(id=row.id, type=row.type, name=row.name, enabled=row.enabled, extra=row.extra)


def _endpoint(row: Any) -> Endpoint:
    return Endpoint(
        id=row.id,
        service_id=row.service_id,
        interface=row.interface,
        url=row.url,
        region_id=row.region_id,
        enabled=row.enabled,
        extra=row.extra,
    )


def _values(item: Item) -> dict[str, Any]:
    return {name: getattr(item, name) for name in item.__struct_fields__}


async def insert(connection: AsyncConnection, items: Sequence[Item]) -> None:
    """Write new items of one kind. One statement. Raises Violation for a taken id or a reference to nothing."""
    await connection.execute(insert_into(_TABLES[type(items[0])]), [_values(item) for item in items])


async def hold(connection: AsyncConnection, kind: type[CatalogService | Endpoint], item_id: str) -> None:
    """Nobody else changes this item until the transaction ends. One statement."""
    table = _TABLES[kind]
    await connection.execute(select(table.c.id).where(table.c.id == item_id).with_for_update(key_share=True))


async def hold_regions(connection: AsyncConnection) -> None:
    """Nobody else changes regions until the transaction ends. Costs a statement on PostgreSQL."""
    await hold_table(connection, catalog_regions)


async def save(connection: AsyncConnection, item: Item) -> None:
    """Write an item that is there, and that the transaction holds, over. One statement."""
    table = _TABLES[type(item)]
    await connection.execute(update(table).where(table.c.id == item.id).values(_values(item)))


async def remove(connection: AsyncConnection, kind: type[Item], item_id: str) -> bool:
    """Delete an item, a service with its endpoints; whether it was there. One statement.

    Raises Violation (`foreign_key`) for a region that is in use.
    """
    table = _TABLES[kind]
    return (await connection.execute(delete(table).where(table.c.id == item_id))).rowcount > 0


async def read_regions(connection: AsyncConnection, filters: Sequence[Filter], page: Page) -> Listing[Region]:
    """A page of regions. One query."""
    where = conditions(catalog_regions, filters)
    return await read_page(connection, catalog_regions, where, page, _region)


async def read_services(connection: AsyncConnection, filters: Sequence[Filter], page: Page) -> Listing[CatalogService]:
    """A page of services. One query."""
    where = conditions(catalog_services, filters)
    return await read_page(connection, catalog_services, where, page, _service)


async def read_endpoints(connection: AsyncConnection, filters: Sequence[Filter], page: Page) -> Listing[Endpoint]:
    """A page of endpoints. One query."""
    where = conditions(catalog_endpoints, filters)
    return await read_page(connection, catalog_endpoints, where, page, _endpoint)


async def read_all(connection: AsyncConnection) -> tuple[list[CatalogService], list[Endpoint]]:
    """All services and endpoints, for a token's catalog: a handful. Two queries."""
    services = await connection.execute(select(catalog_services).order_by(catalog_services.c.type))
    endpoints = await connection.execute(select(catalog_endpoints).order_by(catalog_endpoints.c.id))
    return [_service(row) for row in services], [_endpoint(row) for row in endpoints]
