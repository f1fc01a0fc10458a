"""Subnets. `fence` is the highest fencing token under which the subnet's addresses were changed."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from msgspec import json, to_builtins
from msgspec.structs import asdict
from sqlalchemy import ColumnElement, ForeignKey, String, Table, cast, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.network_listing import ListQuery
from muster.domain.specs import HostRoute
from muster.domain.subnets import Pool, Subnet
from muster.store.columns import counter, document, flag, identity_column, integer, moment, reference, text
from muster.store.dialects import among, chunks
from muster.store.engine import metadata
from muster.store.network_listing import Listable, one_of, page
from muster.store.networks import networks
from muster.store.tags import forget as forget_tags
from muster.store.tags import read as read_tags

subnets = Table(
    "subnets",
    metadata,
    identity_column(),
    reference("project_id", nullable=False, index=True),
    reference("network_id", ForeignKey("networks.id"), nullable=False, index=True),
    text("name", default=""),
    text("description", default=""),
    integer("ip_version"),
    text("cidr"),
    text("gateway_ip", nullable=True),
    flag("enable_dhcp", default=True),
    document("dns_nameservers", default=list),
    document("host_routes", default=list),  # [{"destination": cidr, "nexthop": ip}]
    document("allocation_pools", default=list),  # [{"start": ip, "end": ip}]
    document("service_types", default=list),
    text("ipv6_address_mode", nullable=True),
    text("ipv6_ra_mode", nullable=True),
    flag("dns_publish_fixed_ip"),
    counter("fence"),
    counter("revision"),
    moment("created_at"),
    moment("updated_at"),
)

_DOCUMENTS = ("dns_nameservers", "host_routes", "allocation_pools", "service_types")


def _shared(values: Sequence[Any]) -> ColumnElement[bool]:
    return subnets.c.network_id.in_(select(networks.c.id).where(one_of(networks.c.shared, values)))


def _serving(values: Sequence[Any]) -> ColumnElement[bool]:
    """Those that name one of these service types."""
    written = cast(subnets.c.service_types, String)
    return or_(*(written.contains(json.encode(value).decode(), autoescape=True) for value in values))


_listable = Listable(subnets, {"shared": _shared, "service_types": _serving})


async def insert_all(connection: AsyncConnection, made: Sequence[Subnet]) -> None:
    """Write new subnets. One statement."""
    rows = [{name: value for name, value in asdict(subnet).items() if name != "tags"} for subnet in made]
    await connection.execute(insert(subnets), [_plain(row) for row in rows])


async def read(connection: AsyncConnection, subnet_ids: Collection[str]) -> dict[str, Subnet]:
    """These subnets by id, as far as they exist, with tags. Two queries per chunk."""
    rows: list[Any] = []
    for part in chunks(sorted(subnet_ids)):
        rows += await connection.execute(select(subnets).where(among(subnets.c.id, part)))
    return {subnet.id: subnet for subnet in await _whole(connection, rows)}


async def read_of_network(connection: AsyncConnection, network_id: str) -> list[Subnet]:
    """The subnets of a network, oldest first. Two queries."""
    statement = select(subnets).where(subnets.c.network_id == network_id)
    rows = await connection.execute(statement.order_by(subnets.c.created_at, subnets.c.id))
    return await _whole(connection, rows.all())


async def read_page(connection: AsyncConnection, query: ListQuery, project_id: str | None) -> list[Subnet]:
    """A page of the subnets that a project sees (its own and those of shared networks); None sees all.

    Two queries, three with a marker. Raises MarkerNotFound.
    """
    scope = [or_(subnets.c.project_id == project_id, _shared([True]))] if project_id is not None else []
    return await _whole(connection, await page(connection, _listable, query, scope))


async def change(connection: AsyncConnection, subnet_id: str, fields: Mapping[str, Any], now: float) -> None:
    """Set fields and raise the revision. One statement."""
    statement = update(subnets).where(subnets.c.id == subnet_id)
    await connection.execute(statement.values(**_plain(fields), revision=subnets.c.revision + 1, updated_at=now))


async def remove(connection: AsyncConnection, subnet_ids: Sequence[str]) -> None:
    """Delete subnets whose pools are closed (foreign keys refuse others). Two statements."""
    await forget_tags(connection, subnet_ids)
    await connection.execute(delete(subnets).where(among(subnets.c.id, subnet_ids)))


async def _whole(connection: AsyncConnection, rows: Sequence[Any]) -> list[Subnet]:
    tagged = await read_tags(connection, [row.id for row in rows])
    return [_subnet(row, tagged.get(row.id, ())) for row in rows]


def _subnet(row: Any, names: tuple[str, ...]) -> Subnet:
    fields = dict(row._mapping)
    del fields["fence"]
    fields["dns_nameservers"] = tuple(fields["dns_nameservers"])
    fields["service_types"] = tuple(fields["service_types"])
    fields["host_routes"] = tuple(HostRoute(**route) for route in fields["host_routes"])
    fields["allocation_pools"] = tuple(Pool(**pool) for pool in fields["allocation_pools"])
    return Subnet(**fields, tags=names)


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Structs inside documents as dicts."""
    return {name: to_builtins(value) if name in _DOCUMENTS else value for name, value in fields.items()}
