"""What hosts should have, read for many servers at once: the specs that travel to them."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.networks import dhcp_device_id
from muster.domain.servers import Server
from muster.domain.specs import (
    AddressPair,
    DhcpOption,
    HostRoute,
    KeySpec,
    NetworkSpec,
    PortSpec,
    RuleSpec,
    SecurityGroupSpec,
    ServerSpec,
    SubnetSpec,
)
from muster.store.addresses import addresses, read_by_port
from muster.store.dialects import among, chunks
from muster.store.group_members import read_members, read_referring
from muster.store.networks import networks
from muster.store.port_batch import read_links
from muster.store.ports import IS_DHCP_PORT, ports
from muster.store.security_groups import security_group_rules, security_groups
from muster.store.servers import IN_ORDER, ITS_PORT, servers
from muster.store.subnets import subnets


async def read_ports(connection: AsyncConnection, server_ids: Sequence[str]) -> dict[str, list[PortSpec]]:
    """The ports of these servers. Three queries per chunk."""
    found: dict[str, list[PortSpec]] = {}
    for part in chunks(server_ids):
        statement = select(ports).join(servers, ITS_PORT).where(among(ports.c.device_id, part)).order_by(*IN_ORDER)
        rows = (await connection.execute(statement)).all()
        ids = [row.id for row in rows]
        fixed = await read_by_port(connection, ids)
        links = await read_links(connection, ids)
        for row in rows:
            spec = PortSpec(
                id=row.id,
                network_id=row.network_id,
                mac_address=row.mac_address,
                fixed_ips=fixed.get(row.id, ()),
                security_group_ids=tuple(links.get(row.id, ())),
                port_security_enabled=row.port_security_enabled,
                allowed_address_pairs=tuple(AddressPair(**pair) for pair in row.allowed_address_pairs),
                dhcp_options=tuple(map(_dhcp_option, row.extra_dhcp_opts)),
                admin_state_up=row.admin_state_up,
            )
            found.setdefault(row.device_id, []).append(spec)
    return found


async def read_networks(connection: AsyncConnection, network_ids: Collection[str]) -> dict[str, NetworkSpec]:
    """These networks with their subnets and DHCP addresses. Three queries."""
    if not network_ids:
        return {}
    served = await _dhcp_addresses(connection, network_ids)
    members: dict[str, list[SubnetSpec]] = {}
    generations: dict[str, int] = {}
    statement = select(subnets).where(among(subnets.c.network_id, network_ids)).order_by(subnets.c.created_at)
    for row in await connection.execute(statement):
        members.setdefault(row.network_id, []).append(_subnet(row, served.get(row.id)))
        generations[row.network_id] = generations.get(row.network_id, 0) + row.revision
    rows = await connection.execute(select(networks).where(among(networks.c.id, network_ids)))
    return {
        row.id: NetworkSpec(
            id=row.id,
            generation=row.revision + generations.get(row.id, 0),
            segment_id=row.segment_id or 0,
            mtu=row.mtu,
            dns_domain=row.dns_domain,
            subnets=tuple(members.get(row.id, ())),
        )
        for row in rows
    }


async def read_groups(connection: AsyncConnection, group_ids: Collection[str]) -> dict[str, SecurityGroupSpec]:
    """These security groups, and those that their rules name, these without rules. Six queries per chunk.

    Members are told of groups that some rule names as remote; the cost grows with them.
    """
    rules: dict[str, list[RuleSpec]] = {}
    remote: set[str] = set()
    for part in chunks(sorted(group_ids)):
        statement = select(security_group_rules).where(among(security_group_rules.c.security_group_id, part))
        for row in await connection.execute(statement):
            rules.setdefault(row.security_group_id, []).append(_rule(row))
            if row.remote_group_id:
                remote.add(row.remote_group_id)
    named = remote | (await read_referring(connection, group_ids)).keys()
    members = await read_members(connection, named)
    found: dict[str, SecurityGroupSpec] = {}
    for part in chunks(sorted(remote | set(group_ids))):
        for row in await connection.execute(select(security_groups).where(among(security_groups.c.id, part))):
            found[row.id] = SecurityGroupSpec(
                id=row.id,
                generation=row.revision if row.id in group_ids else -1,
                member_generation=row.member_generation if row.id in named else -1,
                stateful=row.stateful,
                rules=tuple(rules.get(row.id, ())),
                members=tuple(sorted(members.get(row.id, ()))),
            )
    return found


def server_spec(server: Server, its_ports: Sequence[PortSpec]) -> ServerSpec:
    """A server as its host should have it."""
    return ServerSpec(
        id=server.id,
        generation=server.generation,
        project_id=server.project_id,
        user_id=server.user_id,
        name=server.name,
        hostname=server.hostname,
        power=server.power,
        boot_nonce=server.boot_nonce,
        boot_hard=server.boot_hard,
        disk_nonce=server.disk_nonce,
        vcpus=server.flavor.vcpus,
        ram_mib=server.flavor.ram_mib,
        disk_gib=server.flavor.disk_gib,
        flavor_name=server.flavor.name,
        image=server.image,
        ports=tuple(its_ports),
        key=KeySpec(server.key_name, server.public_key) if server.key_name and server.public_key else None,
        user_data=server.user_data,
        injected_files=server.injected_files,
        metadata=server.metadata,
        config_drive=server.config_drive,
        availability_zone=server.zone_of_host or "nova",
        created_at_s=server.created_at,
    )


async def _dhcp_addresses(connection: AsyncConnection, network_ids: Collection[str]) -> dict[str, str]:
    statement = (
        select(addresses.c.subnet_id, addresses.c.ip_address)
        .join(ports, ports.c.id == addresses.c.port_id)
        .where(among(ports.c.device_id, [dhcp_device_id(network_id) for network_id in network_ids]), IS_DHCP_PORT)
    )
    return {subnet_id: ip_address for subnet_id, ip_address in await connection.execute(statement)}  # noqa: C416


def _dhcp_option(option: dict[str, str]) -> DhcpOption:
    return DhcpOption(option["opt_name"], option["opt_value"], int(option["ip_version"]))


def _subnet(row: Any, dhcp_address: str | None) -> SubnetSpec:
    return SubnetSpec(
        id=row.id,
        ip_version=row.ip_version,
        cidr=row.cidr,
        gateway_ip=row.gateway_ip,
        dns_nameservers=tuple(row.dns_nameservers),
        host_routes=tuple(HostRoute(route["destination"], route["nexthop"]) for route in row.host_routes),
        dhcp_enabled=row.enable_dhcp,
        dhcp_address=dhcp_address,
        ipv6_address_mode=row.ipv6_address_mode,
        ipv6_ra_mode=row.ipv6_ra_mode,
    )


def _rule(row: Any) -> RuleSpec:
    return RuleSpec(
        id=row.id,
        direction=row.direction,
        ethertype=row.ethertype,
        protocol=row.protocol,
        port_min=row.port_range_min,
        port_max=row.port_range_max,
        remote_ip_prefix=row.remote_ip_prefix,
        remote_group_id=row.remote_group_id,
    )
