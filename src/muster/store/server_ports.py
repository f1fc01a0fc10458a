"""Ports as servers need them: found by server, bound and unbound in batches."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, case, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.network_members import Binding
from muster.store.addresses import addresses
from muster.store.dialects import Keyed, among, chunks
from muster.store.ports import ports
from muster.store.servers import ITS_PORT, servers

# Seven bound values each, within what one statement takes (`dialects.CHUNK`).
_BINDINGS = 2_000


class WantedBinding(NamedTuple):
    """An existing port that shall be a server's interface; `hostname` is of the server's host."""

    port_id: str
    server_id: str
    hostname: str
    position: int


async def read_port_ids(connection: AsyncConnection, server_ids: Sequence[str]) -> dict[str, list[str]]:
    """The ports of these servers. One query per chunk."""
    found: dict[str, list[str]] = {}
    for part in chunks(server_ids):
        statement = select(ports.c.device_id, ports.c.id).join(servers, ITS_PORT).where(among(ports.c.device_id, part))
        rows = await connection.execute(statement)
        for server_id, port_id in rows:
            found.setdefault(server_id, []).append(port_id)
    return found


async def read_owners(connection: AsyncConnection, port_ids: Collection[str]) -> dict[str, str]:
    """The server of each of these ports that has one, by port. One query per chunk."""
    found: dict[str, str] = {}
    for part in chunks(sorted(port_ids)):
        statement = select(ports.c.id, servers.c.id).join(servers, ITS_PORT).where(among(ports.c.id, part))
        found.update((await connection.execute(statement)).all())
    return found


async def read_servers_in_subnet(connection: AsyncConnection, subnet_id: str) -> set[str]:
    """The servers of ports with an address of a subnet. One query."""
    statement = (
        select(servers.c.id)
        .join(ports, ITS_PORT)
        .join(addresses, addresses.c.port_id == ports.c.id)
        .where(addresses.c.subnet_id == subnet_id)
    )
    return set((await connection.execute(statement.distinct())).scalars())


async def read_next_positions(connection: AsyncConnection, server_ids: Sequence[str]) -> dict[str, int]:
    """The place of the next interface of each of these servers that has one. One query per chunk."""
    found: dict[str, int] = {}
    for part in chunks(server_ids):
        last = func.max(ports.c.device_position)
        statement = (
            select(ports.c.device_id, last + 1).where(among(ports.c.device_id, part)).group_by(ports.c.device_id)
        )
        found.update((await connection.execute(statement)).all())
    return found


async def bind(connection: AsyncConnection, wanted: Sequence[WantedBinding], now: float) -> set[tuple[str, str]]:
    """Bind existing ports; returns (port, server) of those that were free. One conditional statement per chunk.

    Of two that want the same port the first gets it.
    """
    first: dict[str, WantedBinding] = {}
    for binding in wanted:
        first.setdefault(binding.port_id, binding)
    bound: set[tuple[str, str]] = set()
    for part in chunks(sorted(first), _BINDINGS):
        mine = [first[port_id] for port_id in part]
        statement = (
            update(ports)
            .where(among(ports.c.id, part), ports.c.device_id == "")
            .values(
                device_id=case({one.port_id: one.server_id for one in mine}, value=ports.c.id),
                device_position=case({one.port_id: one.position for one in mine}, value=ports.c.id),
                device_owner="compute:nova",
                binding_host_id=case({one.port_id: one.hostname for one in mine}, value=ports.c.id),
                updated_at=now,
                revision=ports.c.revision + 1,
            )
            .returning(ports.c.id, ports.c.device_id)
        )
        bound.update((port_id, server_id) for port_id, server_id in await connection.execute(statement))
    return bound


async def read_bindings(connection: AsyncConnection, port_ids: Sequence[str]) -> set[Binding]:
    """The networks and hosts' names of these ports. One query per chunk."""
    found: set[Binding] = set()
    for part in chunks(port_ids):
        statement = select(ports.c.network_id, ports.c.binding_host_id).where(among(ports.c.id, part)).distinct()
        found.update(Binding(*row) for row in await connection.execute(statement))
    return found


async def unbind(connection: AsyncConnection, port_ids: Sequence[str], server_ids: Collection[str], now: float) -> None:
    """Those of these ports that belong to one of the servers belong to none any more. One statement per chunk."""
    for part in chunks(port_ids):
        values = {"device_id": "", "device_owner": "", "binding_host_id": "", "status": "DOWN", "updated_at": now}
        mine = among(ports.c.id, part) & among(ports.c.device_id, server_ids)
        await connection.execute(update(ports).where(mine).values(**values, revision=ports.c.revision + 1))


_SET_STATUS = Keyed(
    ports.c.device_id,
    lambda theirs: (
        update(ports)
        .where(theirs, exists().where(ITS_PORT), ports.c.status != bindparam("new_status"))
        .values(status=bindparam("new_status"))
    ),
)


async def set_status(connection: AsyncConnection, server_ids: Sequence[str], status: str) -> None:
    """The ports of these servers are up, or down. One statement per chunk."""
    for part in chunks(server_ids):
        await connection.execute(*_SET_STATUS(part, new_status=status))
