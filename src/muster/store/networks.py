"""Networks."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from msgspec.structs import asdict
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Table,
    UniqueConstraint,
    delete,
    false,
    insert,
    or_,
    select,
    true,
    update,
)
from sqlalchemy import Column as SqlColumn
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.network_listing import ListQuery
from muster.domain.networks import Network
from muster.store.columns import counter, document, flag, identity_column, integer, moment, reference, text
from muster.store.dialects import among, chunks
from muster.store.engine import metadata
from muster.store.network_listing import Listable, page
from muster.store.tags import forget as forget_tags
from muster.store.tags import read as read_tags

networks = Table(
    "networks",
    metadata,
    identity_column(),
    reference("project_id", nullable=False, index=True),
    text("name", default=""),
    text("description", default=""),
    flag("admin_state_up", default=True),
    flag("shared"),
    flag("router_external"),
    flag("is_default"),
    flag("port_security_enabled", default=True),
    integer("mtu", default=1450),
    text("network_type", default="vxlan"),
    text("physical_network", nullable=True),
    SqlColumn("segment_id", Integer, nullable=True),  # the VXLAN identifier on the wire
    text("dns_domain", default=""),
    document("availability_zone_hints", default=list),
    counter("revision"),  # with those of its subnets also the generation that hosts see
    SqlColumn("member_generation", BigInteger, nullable=False, default=0, server_default="0"),
    moment("created_at"),
    moment("updated_at"),
    UniqueConstraint("segment_id"),
)

SEGMENT_TAKEN = "uq_networks_segment_id"

_JOINED = frozenset({"subnet_ids", "availability_zones", "tags"})
# Every network is there as soon as it is made.
_listable = Listable(networks, {"status": lambda values: true() if "ACTIVE" in values else false()})


async def insert_all(connection: AsyncConnection, made: Sequence[Network]) -> None:
    """Write new networks. One statement; the unique key on the segment refuses one that is taken."""
    await connection.execute(insert(networks), [_row(network) for network in made])


async def taken_segments(connection: AsyncConnection, segment_ids: Collection[int]) -> set[int]:
    """Which of these segments networks have. One query."""
    statement = select(networks.c.segment_id).where(among(networks.c.segment_id, segment_ids))
    return set((await connection.execute(statement)).scalars())


async def read(connection: AsyncConnection, network_ids: Collection[str]) -> dict[str, Network]:
    """These networks by id, as far as they exist, with subnets and tags. Three queries per chunk."""
    rows: list[Any] = []
    for part in chunks(sorted(network_ids)):
        rows += await connection.execute(select(networks).where(among(networks.c.id, part)))
    return {network.id: network for network in await _whole(connection, rows)}


async def read_page(connection: AsyncConnection, query: ListQuery, project_id: str | None) -> list[Network]:
    """A page of the networks that a project sees (its own, shared and external ones); None sees all.

    Three queries, four with a marker. Raises MarkerNotFound.
    """
    return await _whole(connection, await page(connection, _listable, query, _scope(project_id)))


async def lock(connection: AsyncConnection, network_ids: Collection[str]) -> None:
    """Let no other transaction change these networks' subnets, or make ports there, until this one ends."""
    statement = select(networks.c.id).where(among(networks.c.id, network_ids)).order_by(networks.c.id)
    await connection.execute(statement.with_for_update())


async def touch(connection: AsyncConnection, network_ids: Collection[str], now: float, *, gone: int = 0) -> None:
    """Raise the revision of networks of which something has changed. One statement.

    `gone`: the revision of a subnet that goes. Hosts see the sum of a network's and its subnets', which only grows.
    """
    statement = update(networks).where(among(networks.c.id, network_ids))
    await connection.execute(statement.values(revision=networks.c.revision + 1 + gone, updated_at=now))


async def change(connection: AsyncConnection, network_id: str, fields: Mapping[str, Any], now: float) -> None:
    """Set fields and raise the revision. One statement."""
    statement = update(networks).where(networks.c.id == network_id)
    await connection.execute(statement.values(**fields, revision=networks.c.revision + 1, updated_at=now))


async def unset_default(connection: AsyncConnection, except_id: str) -> None:
    """No other network is the default external one. One statement."""
    statement = update(networks).where(networks.c.is_default, networks.c.id != except_id)
    await connection.execute(statement.values(is_default=False))


async def remove(connection: AsyncConnection, network_id: str) -> bool:
    """Delete a network that has no subnet and no port (a foreign key refuses others); False if it is not there.

    Two statements.
    """
    await forget_tags(connection, [network_id])
    return (await connection.execute(delete(networks).where(networks.c.id == network_id))).rowcount == 1


def _scope(project_id: str | None) -> list[ColumnElement[bool]]:
    if project_id is None:
        return []
    return [or_(networks.c.project_id == project_id, networks.c.shared, networks.c.router_external)]


async def _whole(connection: AsyncConnection, rows: Sequence[Any]) -> list[Network]:
    ids = [row.id for row in rows]
    subnet_ids: dict[str, list[str]] = {}
    subnets = metadata.tables["subnets"]
    for part in chunks(ids):
        statement = select(subnets.c.network_id, subnets.c.id).where(among(subnets.c.network_id, part))
        for network_id, subnet_id in await connection.execute(statement.order_by(subnets.c.created_at, subnets.c.id)):
            subnet_ids.setdefault(network_id, []).append(subnet_id)
    tagged = await read_tags(connection, ids)
    return [_network(row, subnet_ids.get(row.id, ()), tagged.get(row.id, ())) for row in rows]


def _network(row: Any, subnet_ids: Sequence[str], names: tuple[str, ...]) -> Network:
    fields = dict(row._mapping)
    del fields["member_generation"]  # `store.network_members`'
    fields["availability_zone_hints"] = tuple(fields["availability_zone_hints"])
    return Network(**fields, subnet_ids=tuple(subnet_ids), tags=names)


def _row(network: Network) -> dict[str, Any]:
    row = {name: value for name, value in asdict(network).items() if name not in _JOINED}
    return {**row, "availability_zone_hints": list(network.availability_zone_hints)}
