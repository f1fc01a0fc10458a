"""Ports, and which security groups they are in. Their addresses are in `store.addresses`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from msgspec import to_builtins
from sqlalchemy import (
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    UniqueConstraint,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy import delete as delete_from
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.network_listing import ListQuery
from muster.domain.networks import dhcp_device_id
from muster.domain.ports import DHCP_OWNER, Port
from muster.domain.specs import AddressPair
from muster.store.addresses import addresses
from muster.store.addresses import read_by_port as read_addresses
from muster.store.columns import CHANGED_ONCE, counter, document, flag, identity_column, moment, reference, text
from muster.store.dialects import among, chunks
from muster.store.engine import metadata
from muster.store.network_listing import Listable, page
from muster.store.networks import networks
from muster.store.tags import read as read_tags

ports = Table(
    "ports",
    metadata,
    identity_column(),
    reference("project_id", nullable=False, index=True),
    reference("network_id", ForeignKey("networks.id"), nullable=False),
    text("name", default=""),
    text("description", default=""),
    text("mac_address"),
    flag("admin_state_up", default=True),
    text("status", default="DOWN"),
    text("device_id", default=""),
    text("device_owner", default=""),
    Column("device_position", Integer, nullable=False, default=0),  # its place among the server's interfaces
    flag("port_security_enabled", default=True),
    document("allowed_address_pairs", default=list),  # [{"ip_address":, "mac_address":}]
    document("extra_dhcp_opts", default=list),
    Column("binding_host_id", String(255), nullable=False, default=""),  # a host's name, as in Neutron
    text("binding_vnic_type", default="normal"),
    document("binding_profile"),
    text("dns_name", default=""),
    counter("revision"),
    moment("created_at"),
    moment("updated_at"),
    UniqueConstraint("network_id", "mac_address"),
    Index("ix_ports_device_id", "device_id"),
    Index("ix_ports_binding_host_id", "binding_host_id"),
    postgresql_with=CHANGED_ONCE,
)

port_security_groups = Table(
    "port_security_groups",
    metadata,
    reference("port_id", ForeignKey("ports.id", ondelete="CASCADE"), primary_key=True),
    reference("security_group_id", ForeignKey("security_groups.id"), primary_key=True, index=True),
    Column("position", Integer, nullable=False, default=0),  # the order in which the user named them
)

MAC_TAKEN = "uq_ports_network_id_mac_address"
#: A port that is a network's DHCP port if its device is the network's.
IS_DHCP_PORT = ports.c.device_owner == DHCP_OWNER

_DOCUMENTS = ("allowed_address_pairs", "extra_dhcp_opts", "binding_profile")


def _has_address(column: str) -> Any:
    return lambda values: ports.c.id.in_(select(addresses.c.port_id).where(among(addresses.c[column], values)))


def _has_address_part(values: Sequence[str]) -> ColumnElement[bool]:
    parts = [addresses.c.ip_address.contains(value, autoescape=True) for value in values]
    return ports.c.id.in_(select(addresses.c.port_id).where(addresses.c.port_id.is_not(None), or_(*parts)))


def _in_group(values: Sequence[str]) -> ColumnElement[bool]:
    members = select(port_security_groups.c.port_id).where(among(port_security_groups.c.security_group_id, values))
    return ports.c.id.in_(members)


_listable = Listable(
    ports,
    {
        "fixed_ip_address": _has_address("ip_address"),
        "fixed_ip_subnet_id": _has_address("subnet_id"),
        "fixed_ip_address_part": _has_address_part,
        "security_group_id": _in_group,
    },
)


async def read(connection: AsyncConnection, port_ids: Collection[str]) -> dict[str, Port]:
    """These ports by id, as far as they exist, whole. Four queries per chunk."""
    rows: list[Any] = []
    for part in chunks(sorted(port_ids)):
        rows += await connection.execute(select(ports).where(among(ports.c.id, part)))
    return {port.id: port for port in await _whole(connection, rows)}


async def read_page(connection: AsyncConnection, query: ListQuery, project_id: str | None) -> list[Port]:
    """A page of the ports that a project sees (its own and all on its networks); None sees all.

    Four queries, five with a marker. Raises MarkerNotFound.
    """
    scope = [_seen_by(project_id)] if project_id is not None else []
    return await _whole(connection, await page(connection, _listable, query, scope))


async def read_of_network(connection: AsyncConnection, network_id: str) -> list[tuple[str, str, str]]:
    """(id, device_owner, project) of each port of a network. One query."""
    columns = (ports.c.id, ports.c.device_owner, ports.c.project_id)
    rows = await connection.execute(select(*columns).where(ports.c.network_id == network_id))
    return list(rows.all())


async def read_dhcp_ports(connection: AsyncConnection, network_id: str) -> list[Port]:
    """The network's own DHCP port, or none. Four queries.

    Anybody may write any device's id into a port; whose owner is DHCP, on a network of others, only the cloud may say.
    """
    where = (ports.c.network_id == network_id) & IS_DHCP_PORT & (ports.c.device_id == dhcp_device_id(network_id))
    return await _whole(connection, (await connection.execute(select(ports).where(where))).all())


async def read_macs(connection: AsyncConnection, network_id: str) -> list[tuple[str, str]]:
    """(id, MAC address) of a network's ports but those of the cloud itself. One query."""
    where = (ports.c.network_id == network_id) & ports.c.device_owner.not_like("network:%")
    return list((await connection.execute(select(ports.c.id, ports.c.mac_address).where(where))).all())


async def read_holders(connection: AsyncConnection, subnet_id: str) -> list[tuple[str, str, str]]:
    """(port id, device owner, address) of each address of a subnet that a port has. One query."""
    statement = (
        select(ports.c.id, ports.c.device_owner, addresses.c.ip_address)
        .join(addresses, addresses.c.port_id == ports.c.id)
        .where(addresses.c.subnet_id == subnet_id)
    )
    return list((await connection.execute(statement)).all())


async def change(connection: AsyncConnection, port_id: str, fields: Mapping[str, Any], now: float) -> bool:
    """Set fields and raise the revision; False if the port is gone. One statement."""
    plain = {name: to_builtins(value) if name in _DOCUMENTS else value for name, value in fields.items()}
    statement = update(ports).where(ports.c.id == port_id)
    changed = await connection.execute(statement.values(**plain, revision=ports.c.revision + 1, updated_at=now))
    return changed.rowcount == 1


async def set_groups(connection: AsyncConnection, port_id: str, group_ids: Sequence[str]) -> None:
    """The port is in these security groups, in this order. Two statements."""
    await connection.execute(delete_from(port_security_groups).where(port_security_groups.c.port_id == port_id))
    rows = [
        {"port_id": port_id, "security_group_id": group_id, "position": position}
        for position, group_id in enumerate(dict.fromkeys(group_ids))
    ]
    if rows:
        await connection.execute(insert(port_security_groups), rows)


async def projects_on_network(connection: AsyncConnection, network_id: str) -> set[str]:
    """The projects that have ports on a network, other than those of the cloud itself. One query."""
    where = (ports.c.network_id == network_id) & ports.c.device_owner.not_like("network:%")
    return set((await connection.execute(select(ports.c.project_id).where(where).distinct())).scalars())


def _seen_by(project_id: str) -> ColumnElement[bool]:
    mine = select(networks.c.id).where(networks.c.project_id == project_id)
    return or_(ports.c.project_id == project_id, ports.c.network_id.in_(mine))


async def _whole(connection: AsyncConnection, rows: Sequence[Any]) -> list[Port]:
    ids = [row.id for row in rows]
    if not ids:
        return []
    given = await read_addresses(connection, ids)
    tagged = await read_tags(connection, ids)
    groups: dict[str, list[str]] = {}
    for part in chunks(ids):
        links = port_security_groups.c
        statement = select(links.port_id, links.security_group_id).where(among(links.port_id, part))
        for port_id, group_id in await connection.execute(statement.order_by(links.position)):
            groups.setdefault(port_id, []).append(group_id)
    return [
        _port(row, fixed_ips=given.get(row.id, ()), groups=groups.get(row.id, ()), names=tagged.get(row.id, ()))
        for row in rows
    ]


def _port(row: Any, *, fixed_ips: Any, groups: Sequence[str], names: tuple[str, ...]) -> Port:
    fields = dict(row._mapping)
    fields["allowed_address_pairs"] = tuple(AddressPair(**pair) for pair in fields["allowed_address_pairs"])
    fields["extra_dhcp_opts"] = tuple(fields["extra_dhcp_opts"])
    return Port(**fields, fixed_ips=fixed_ips, security_group_ids=tuple(groups), tags=names)
