"""What a batch of ports reads and writes, in as many statements as there are tables, not ports."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.base.errors import Stale
from muster.domain.network_members import Binding
from muster.domain.port_batch import NetworkPicture, SubnetPicture
from muster.domain.ports import Port
from muster.store.dialects import among, chunks
from muster.store.networks import networks
from muster.store.ports import port_security_groups, ports
from muster.store.security_groups import security_groups
from muster.store.subnets import subnets
from muster.store.tags import tags


async def read_pictures(connection: AsyncConnection, network_ids: Collection[str]) -> dict[str, NetworkPicture]:
    """These networks with their subnets, oldest subnet first. Two queries."""
    columns = (networks.c.id, networks.c.project_id, networks.c.shared, networks.c.port_security_enabled)
    rows = await connection.execute(select(*columns).where(among(networks.c.id, network_ids)))
    found = {
        row.id: NetworkPicture(
            id=row.id, project_id=row.project_id, shared=row.shared, port_security_enabled=row.port_security_enabled
        )
        for row in rows
    }
    return await with_subnets(connection, found)


async def with_subnets(
    connection: AsyncConnection, pictures: Mapping[str, NetworkPicture]
) -> dict[str, NetworkPicture]:
    """These networks with the subnets that they have now, oldest first. One query."""
    found: dict[str, list[SubnetPicture]] = {}
    statement = (
        select(
            subnets.c.id,
            subnets.c.network_id,
            subnets.c.ip_version,
            subnets.c.cidr,
            subnets.c.gateway_ip,
            subnets.c.enable_dhcp,
            subnets.c.ipv6_address_mode,
        )
        .where(among(subnets.c.network_id, list(pictures)))
        .order_by(subnets.c.created_at, subnets.c.id)
    )
    for row in await connection.execute(statement):
        found.setdefault(row.network_id, []).append(SubnetPicture(**row._mapping))
    return {
        network_id: replace(picture, subnets=tuple(found.get(network_id, ())))
        for network_id, picture in pictures.items()
    }


async def keep_subnets(connection: AsyncConnection, network_ids: Collection[str]) -> None:
    """Let nobody add, change or remove subnets of these networks until this transaction ends. One statement.

    Others may do the same at the same time.
    """
    statement = select(networks.c.id).where(among(networks.c.id, network_ids)).order_by(networks.c.id)
    await connection.execute(statement.with_for_update(key_share=True, read=True))


async def hold_subnets(connection: AsyncConnection, subnet_ids: Collection[str]) -> None:
    """Let nobody else take free addresses of these subnets until this transaction ends. One statement.

    Whoever has a lock of one waits as well, in `record_fences`. Only leases are used up meanwhile.
    """
    statement = select(subnets.c.id).where(among(subnets.c.id, subnet_ids)).order_by(subnets.c.id)
    await connection.execute(statement.with_for_update(key_share=True))


async def record_fences(connection: AsyncConnection, tokens: Mapping[str, int]) -> None:
    """Write the fencing token under which each subnet is about to change. One statement per subnet.

    Raises Stale if a later holder was there.
    """
    for subnet_id, token in sorted(tokens.items()):
        statement = update(subnets).where(subnets.c.id == subnet_id, subnets.c.fence <= token).values(fence=token)
        if (await connection.execute(statement)).rowcount != 1:
            raise Stale(f"Subnet {subnet_id} is gone or a later lock holder has changed it")


async def read_macs(connection: AsyncConnection, network_id: str, mac_addresses: Collection[str]) -> set[str]:
    """Which of these MAC addresses the network has already. One query."""
    statement = select(ports.c.mac_address).where(
        ports.c.network_id == network_id, among(ports.c.mac_address, mac_addresses)
    )
    return set((await connection.execute(statement)).scalars())


async def read_group_projects(connection: AsyncConnection, group_ids: Collection[str]) -> dict[str, str]:
    """The project of each of these security groups that exists. One query per chunk."""
    found: dict[str, str] = {}
    for part in chunks(sorted(group_ids)):
        statement = select(security_groups.c.id, security_groups.c.project_id).where(among(security_groups.c.id, part))
        found.update((await connection.execute(statement)).all())
    return found


async def insert_ports(connection: AsyncConnection, made: Sequence[Port]) -> None:
    """Write ports without their addresses, their security groups and tags. Three statements at most."""
    if not made:
        return
    await connection.execute(insert(ports), [_row(port) for port in made])
    links = [
        {"port_id": port.id, "security_group_id": group_id, "position": position}
        for port in made
        for position, group_id in enumerate(port.security_group_ids)
    ]
    if links:
        await connection.execute(insert(port_security_groups), links)
    tagged = [{"resource_id": port.id, "tag": tag} for port in made for tag in port.tags]
    if tagged:
        await connection.execute(insert(tags), tagged)


async def read_links(connection: AsyncConnection, port_ids: Sequence[str]) -> dict[str, list[str]]:
    """The security groups of these ports, by port, in the order in which they were named. One query per chunk."""
    found: dict[str, list[str]] = {}
    for part in chunks(port_ids):
        statement = (
            select(port_security_groups.c.port_id, port_security_groups.c.security_group_id)
            .where(among(port_security_groups.c.port_id, part))
            .order_by(port_security_groups.c.position)
        )
        for port_id, group_id in await connection.execute(statement):
            found.setdefault(port_id, []).append(group_id)
    return found


async def lock_ports(connection: AsyncConnection, port_ids: Sequence[str]) -> None:
    """Let nobody change these ports, or give them addresses, before this transaction ends. One query per chunk.

    Nothing on SQLite, which has one writer.
    """
    if connection.dialect.name == "sqlite":
        return
    for part in chunks(sorted(port_ids)):
        await connection.execute(
            select(ports.c.id).where(among(ports.c.id, part)).order_by(ports.c.id).with_for_update()
        )


class Removed(NamedTuple):
    """What a port was that is gone."""

    project_id: str
    binding: Binding


async def delete_ports(connection: AsyncConnection, port_ids: Sequence[str]) -> dict[str, Removed]:
    """Ports, their links and tags are gone; returns what each was that was there until now, by id.

    Their addresses must have been released. Three statements per chunk.
    """
    removed: dict[str, Removed] = {}
    columns = (ports.c.id, ports.c.project_id, ports.c.network_id, ports.c.binding_host_id)
    for part in chunks(port_ids):
        await connection.execute(delete(tags).where(among(tags.c.resource_id, part)))
        await connection.execute(delete(port_security_groups).where(among(port_security_groups.c.port_id, part)))
        statement = delete(ports).where(among(ports.c.id, part)).returning(*columns)
        for port_id, project_id, network_id, hostname in await connection.execute(statement):
            removed[port_id] = Removed(project_id, Binding(network_id, hostname))
    return removed


def _row(port: Port) -> dict[str, object]:
    return {
        "id": port.id,
        "project_id": port.project_id,
        "network_id": port.network_id,
        "name": port.name,
        "description": port.description,
        "mac_address": port.mac_address,
        "admin_state_up": port.admin_state_up,
        "status": port.status,
        "device_id": port.device_id,
        "device_owner": port.device_owner,
        "device_position": port.device_position,
        "port_security_enabled": port.port_security_enabled,
        "allowed_address_pairs": [
            {"ip_address": pair.ip_address, "mac_address": pair.mac_address} for pair in port.allowed_address_pairs
        ],
        "extra_dhcp_opts": list(port.extra_dhcp_opts),
        "binding_host_id": port.binding_host_id,
        "binding_vnic_type": port.binding_vnic_type,
        "binding_profile": port.binding_profile,
        "dns_name": port.dns_name,
        "revision": port.revision,
        "created_at": port.created_at,
        "updated_at": port.updated_at,
    }
