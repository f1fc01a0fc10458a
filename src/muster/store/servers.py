"""Servers: what was asked, what should be (power, nonces, generation), and what was last seen."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    JSON,
    Column,
    ForeignKey,
    Index,
    Select,
    String,
    Table,
    and_,
    bindparam,
    delete,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy import text as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.servers import Fault, FlavorPicture, Interface, Server
from muster.domain.specs import FixedIp, ImageSpec, InjectedFile, Power
from muster.store.addresses import addresses
from muster.store.columns import counter, document, flag, identity_column, integer, moment, reference, text
from muster.store.dialects import Keyed, among, chunks, of_row
from muster.store.engine import metadata
from muster.store.hosts import hosts
from muster.store.networks import networks
from muster.store.ports import port_security_groups, ports
from muster.store.security_groups import security_groups

#: Neither running nor on their way there: few of a large cloud's servers, as a rule, and none that is made, used and
#: deleted, which therefore costs nothing more. In these words, so that their index is used.
UNUSUAL = "vm_state NOT IN ('active', 'building')"
_UNUSUAL_AND_THERE = sql(f"deleted_at IS NULL AND {UNUSUAL}")

servers = Table(
    "servers",
    metadata,
    identity_column(),
    reference("project_id", nullable=False),
    reference("user_id", nullable=False),
    text("name"),
    text("hostname"),
    text("description", nullable=True),
    # The flavor as it was when asked for: a flavor may be deleted or changed later.
    reference("flavor_id", nullable=False),
    document("flavor"),  # name, ephemeral, swap, extra_specs
    integer("vcpus"),
    integer("ram_mib"),
    integer("disk_gib"),
    reference("image_id", nullable=True, index=True),
    document("image", default=None),  # ImageSpec as a dict, or None
    text("key_name", nullable=True),
    text("public_key", nullable=True),
    text("user_data", nullable=True),
    Column("injected_files", JSON(none_as_null=True), nullable=True),  # [{path, contents}]; most servers have none
    document("metadata"),
    flag("config_drive"),
    text("availability_zone", nullable=True),  # as asked; the host's zone once placed
    text("disk_config", default="MANUAL"),
    text("access_ip_v4", default=""),
    text("access_ip_v6", default=""),
    reference("server_group_id", nullable=True, index=True),
    text("reservation_id"),
    document("kept_port_ids", default=list),  # ports that were there before and outlive the server
    integer("launch_index", default=0),
    flag("locked"),
    text("locked_reason", nullable=True),
    text("locked_by", nullable=True),  # owner, admin
    document("interface_tags"),  # {port: the tag that the guest's metadata shows}
    reference("host_id", ForeignKey("hosts.id"), nullable=True),
    # Nova's states; `domain.servers` derives the API's status from them.
    text("vm_state"),
    text("task_state", nullable=True),
    integer("power_state", default=0),
    # What should be: see ServerSpec.
    text("power"),
    counter("generation"),
    integer("boot_nonce", default=0),
    flag("boot_hard"),
    integer("disk_nonce", default=0),
    integer("fault_code", nullable=True),
    text("fault_message", nullable=True),
    text("fault_details", nullable=True),
    moment("fault_at", nullable=True),
    document("timeline"),
    moment("created_at"),
    moment("updated_at"),
    moment("launched_at", nullable=True),
    moment("terminated_at", nullable=True),
    moment("deleted_at", nullable=True),
    # A host's resync and a project's list cost what they return, not what exists.
    Index(
        "ix_servers_host_live",
        "host_id",
        sqlite_where=sql("deleted_at IS NULL"),
        postgresql_where=sql("deleted_at IS NULL"),
    ),
    Index("ix_servers_project_created", "project_id", "created_at", "id"),
    Index("ix_servers_created", "created_at", "id"),
    Index("ix_servers_updated", "updated_at"),
    Index("ix_servers_project_name", "project_id", "name"),
    # Those of a status. The last column, always NULL, is there so that no row has to be read for its condition.
    Index(
        "ix_servers_unusual",
        *("vm_state", "project_id", "deleted_at"),
        sqlite_where=_UNUSUAL_AND_THERE,
        postgresql_where=_UNUSUAL_AND_THERE,
    ),
)

server_tags = Table(
    "server_tags",
    metadata,
    reference("server_id", ForeignKey("servers.id", ondelete="CASCADE"), primary_key=True),
    Column("tag", String(60), primary_key=True, index=True),
)


#: A server's interfaces in the order in which its user named them: the first is the guest's first card.
IN_ORDER = (ports.c.device_position, ports.c.created_at, ports.c.id)
#: A port is a server's if it says so and is of the server's project: anybody may write any device's id into a port.
ITS_PORT = and_(servers.c.id == ports.c.device_id, of_row(servers.c.project_id) == of_row(ports.c.project_id))


#: Servers with what their hosts tell of themselves: rows for `read_rows`.
WITH_HOST: Select[Any] = select(
    servers,
    hosts.c.hostname.label("host_hostname"),
    hosts.c.availability_zone.label("host_zone"),
    hosts.c.disabled.label("host_disabled"),
    hosts.c.forced_down.label("host_forced_down"),
    hosts.c.last_seen_at.label("host_seen_at"),
).join(hosts, hosts.c.id == servers.c.host_id, isouter=True)
_BY_IDS = Keyed(servers.c.id, WITH_HOST.where)
_BY_IDS_LOCKED = Keyed(
    servers.c.id, lambda mine: WITH_HOST.where(mine).order_by(servers.c.id).with_for_update(of=servers)
)
_TAGS = Keyed(server_tags.c.server_id, lambda theirs: select(server_tags).where(theirs))
# A row per address and group of an interface, and one of an interface without any.
_INTERFACES = Keyed(
    ports.c.device_id,
    lambda theirs: (
        select(
            *(ports.c.id, ports.c.device_id, ports.c.network_id, ports.c.mac_address, ports.c.status, networks.c.name),
            *(addresses.c.subnet_id, addresses.c.ip_address),
            *(security_groups.c.id.label("group_id"), security_groups.c.name.label("group_name")),
        )
        .join(networks, networks.c.id == ports.c.network_id)
        .join(servers, ITS_PORT)
        .join(addresses, addresses.c.port_id == ports.c.id, isouter=True)
        .join(port_security_groups, port_security_groups.c.port_id == ports.c.id, isouter=True)
        .join(security_groups, security_groups.c.id == port_security_groups.c.security_group_id, isouter=True)
        .where(theirs)
        .order_by(*IN_ORDER, addresses.c.address, port_security_groups.c.position)
    ),
)


async def insert_servers(connection: AsyncConnection, made: Sequence[Server]) -> None:
    """Write new servers with their tags. Two statements at most."""
    if made:
        await connection.execute(insert(servers), [_row(server) for server in made])
    tagged = [{"server_id": server.id, "tag": tag} for server in made for tag in server.tags]
    if tagged:
        await connection.execute(insert(server_tags), tagged)


async def write(connection: AsyncConnection, changed: Sequence[Server]) -> None:
    """Write what may change of servers. One statement, executed for many."""
    for server in changed:
        row = _row(server)
        statement = update(servers).where(servers.c.id == row.pop("id"))
        await connection.execute(statement.values(row))


_STATE = (
    *("vm_state", "task_state", "power_state", "power", "generation", "boot_nonce", "boot_hard", "disk_nonce"),
    *("fault_code", "fault_message", "fault_details", "fault_at", "timeline"),
    *("updated_at", "launched_at", "terminated_at", "deleted_at"),
)
_WRITE_STATE = (
    update(servers).where(servers.c.id == bindparam("b_id")).values({name: bindparam(f"b_{name}") for name in _STATE})
)


async def write_states(connection: AsyncConnection, changed: Sequence[Server]) -> None:
    """Write the states of many servers: what hosts' reports and power requests change. One statement for all."""
    if changed:
        rows = [{"b_" + name: value for name, value in _state_row(server).items()} for server in changed]
        await connection.execute(_WRITE_STATE, rows)


async def lock(connection: AsyncConnection, server_ids: Collection[str]) -> None:
    """Let nobody else change these servers before the transaction ends, in the order of `read_by_ids`. One query per
    chunk; nothing on SQLite, which has one writer."""
    if connection.dialect.name == "sqlite":
        return
    for part in chunks(sorted(server_ids)):
        statement = select(servers.c.id).where(among(servers.c.id, part)).order_by(servers.c.id)
        await connection.execute(statement.with_for_update())


async def read_by_ids(
    connection: AsyncConnection, server_ids: Collection[str], *, interfaces: bool = False, lock: bool = False
) -> dict[str, Server]:
    """These servers, deleted ones too; with `interfaces` also their ports. One to three queries per chunk.

    `lock` keeps others from changing them before the transaction ends, in a fixed order.
    """
    found: dict[str, Server] = {}
    for part in chunks(sorted(set(server_ids))):
        for row in await connection.execute(*(_BY_IDS_LOCKED if lock else _BY_IDS)(part)):
            found[row.id] = _server(row)
    if interfaces:
        return {server.id: server for server in await with_details(connection, list(found.values()))}
    return found


_ENDING = WITH_HOST.where(servers.c.deleted_at.is_(None), servers.c.power == Power.ABSENT.value)
_ENDING_NOWHERE = _ENDING.where(servers.c.host_id.is_(None))
_ENDING_WHERE_HOSTS_ARE_DOWN = _ENDING.where(
    servers.c.host_id.in_(
        select(hosts.c.id).where(or_(hosts.c.forced_down, hosts.c.last_seen_at < bindparam("seen_after")))
    )
)


async def read_ending(connection: AsyncConnection, *, seen_after: float) -> list[Server]:
    """Servers to be deleted of which no host will report the end: on none, or on one that is down. Two queries.

    They look at the servers without a host and of hosts that are down, whatever else there is.
    """
    found = [_server(row) for row in await connection.execute(_ENDING_NOWHERE)]
    ended = await connection.execute(_ENDING_WHERE_HOSTS_ARE_DOWN, {"seen_after": seen_after})
    return found + [_server(row) for row in ended]


async def read_of_hosts(connection: AsyncConnection, host_ids: Collection[str]) -> list[Server]:
    """All servers that these hosts should know of. One query per chunk."""
    found: list[Server] = []
    for part in chunks(sorted(host_ids)):
        where = among(servers.c.host_id, part) & servers.c.deleted_at.is_(None)
        found += [_server(row) for row in await connection.execute(WITH_HOST.where(where))]
    return found


async def read_rows(connection: AsyncConnection, statement: Select[Any], values: Mapping[str, object]) -> list[Server]:
    """The servers of a statement made of WITH_HOST, with what it binds, without tags and interfaces. One query."""
    return [_server(row) for row in await connection.execute(statement, values)]


async def with_details(connection: AsyncConnection, found: Sequence[Server]) -> list[Server]:
    """The servers with their tags and interfaces. Two queries per chunk."""
    ids = [server.id for server in found]
    tags: dict[str, list[str]] = {}
    interfaces: dict[str, list[Interface]] = {}
    for part in chunks(ids):
        for row in await connection.execute(*_TAGS(part)):
            tags.setdefault(row.server_id, []).append(row.tag)
        rows = (await connection.execute(*_INTERFACES(part))).all()
        fixed: dict[str, dict[FixedIp, None]] = {}
        names: dict[str, dict[str, str]] = {}
        for row in rows:
            if row.subnet_id is not None:
                fixed.setdefault(row.id, {})[FixedIp(row.subnet_id, row.ip_address)] = None
            if row.group_id is not None:
                names.setdefault(row.id, {})[row.group_id] = row.group_name
        for row in {row.id: row for row in rows}.values():
            interface = Interface(
                port_id=row.id,
                network_id=row.network_id,
                network_name=row.name,
                mac_address=row.mac_address,
                status=row.status,
                fixed_ips=tuple(fixed.get(row.id, ())),
                security_group_names=tuple(names.get(row.id, {}).values()),
            )
            interfaces.setdefault(row.device_id, []).append(interface)
    return [
        msgspec.structs.replace(
            server, tags=tuple(sorted(tags.get(server.id, ()))), interfaces=tuple(interfaces.get(server.id, ()))
        )
        for server in found
    ]


async def set_tags(connection: AsyncConnection, server_id: str, tags: Sequence[str]) -> None:
    """Replace a server's tags. Up to two statements."""
    await connection.execute(delete(server_tags).where(server_tags.c.server_id == server_id))
    if tags:
        await connection.execute(insert(server_tags), [{"server_id": server_id, "tag": tag} for tag in tags])


def _state_row(server: Server) -> dict[str, Any]:
    return {
        "id": server.id,
        "vm_state": server.vm_state,
        "task_state": server.task_state,
        "power_state": server.power_state,
        "power": server.power.value,
        "generation": server.generation,
        "boot_nonce": server.boot_nonce,
        "boot_hard": server.boot_hard,
        "disk_nonce": server.disk_nonce,
        "fault_code": server.fault.code if server.fault else None,
        "fault_message": server.fault.message if server.fault else None,
        "fault_details": server.fault.details if server.fault else None,
        "fault_at": server.fault.created_at if server.fault else None,
        "timeline": server.timeline,
        "updated_at": server.updated_at,
        "launched_at": server.launched_at,
        "terminated_at": server.terminated_at,
        "deleted_at": server.deleted_at,
    }


def _row(server: Server) -> dict[str, Any]:
    flavor = msgspec.to_builtins(server.flavor)
    return {
        **_state_row(server),
        "project_id": server.project_id,
        "user_id": server.user_id,
        "name": server.name,
        "hostname": server.hostname,
        "description": server.description,
        "flavor_id": server.flavor.id,
        "flavor": flavor,
        "vcpus": server.flavor.vcpus,
        "ram_mib": server.flavor.ram_mib,
        "disk_gib": server.flavor.disk_gib,
        "image_id": server.image.id if server.image else None,
        "image": msgspec.to_builtins(server.image),
        "key_name": server.key_name,
        "public_key": server.public_key,
        "user_data": server.user_data,
        "injected_files": msgspec.to_builtins(server.injected_files) or None,
        "metadata": server.metadata,
        "config_drive": server.config_drive,
        "availability_zone": server.availability_zone,
        "disk_config": server.disk_config,
        "access_ip_v4": server.access_ip_v4,
        "access_ip_v6": server.access_ip_v6,
        "server_group_id": server.server_group_id,
        "reservation_id": server.reservation_id,
        "kept_port_ids": list(server.kept_port_ids),
        "launch_index": server.launch_index,
        "locked": server.locked,
        "locked_reason": server.locked_reason,
        "locked_by": server.locked_by,
        "interface_tags": server.interface_tags,
        "host_id": server.host_id,
        "created_at": server.created_at,
    }


_COLUMNS = tuple(WITH_HOST.selected_columns.keys())
# Fields that are columns of the same name, as they are.
_PLAIN = tuple(
    name
    for name in Server.__struct_fields__
    if name in servers.c and name not in ("flavor", "image", "injected_files", "power", "kept_port_ids")
)


def _server(row: Any) -> Server:
    # Not attributes of the row: SQLAlchemy takes ten times as long for each, and a page has 1,000 rows of 50.
    columns = dict(zip(_COLUMNS, row, strict=True))
    fault = None
    if columns["fault_code"] is not None:
        message, details = columns["fault_message"] or "", columns["fault_details"] or ""
        fault = Fault(columns["fault_code"], message, details, columns["fault_at"] or 0.0)
    return Server(
        **{name: columns[name] for name in _PLAIN},
        flavor=msgspec.convert(columns["flavor"], FlavorPicture),
        image=msgspec.convert(columns["image"], ImageSpec) if columns["image"] else None,
        injected_files=msgspec.convert(columns["injected_files"] or (), tuple[InjectedFile, ...]),
        power=Power(columns["power"]),
        kept_port_ids=tuple(columns["kept_port_ids"]),
        hostname_of_host=columns["host_hostname"],
        zone_of_host=columns["host_zone"],
        host_disabled=bool(columns["host_disabled"]),
        host_seen_at=None if columns["host_forced_down"] else columns["host_seen_at"],
        fault=fault,
    )
