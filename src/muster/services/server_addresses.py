"""Addresses of servers that exist: one more on a network where the server has a port, or one less.

The port, its address and what the server's host must hear are one transaction, as in an update of the port.
"""

from collections.abc import Awaitable, Callable
from ipaddress import ip_address

from muster.base.errors import Invalid, MusterError, NotFound
from muster.domain.context import Context
from muster.domain.group_members import member_of
from muster.domain.ports import Port, WantedIp
from muster.domain.server_interfaces import check_pluggable
from muster.domain.servers import Interface
from muster.services.port_batch import PortBatch
from muster.services.port_work import PortWork
from muster.services.redecide import redeciding
from muster.services.servers import Servers, visible
from muster.store import port_batch as picture_store
from muster.store import ports as port_store
from muster.store import server_ports
from muster.store import servers as store

# Changes a port's addresses within a transaction.
_Change = Callable[[PortWork, Port], Awaitable[None]]


class ServerAddresses:
    """The use cases."""

    def __init__(self, ports: PortBatch, servers: Servers) -> None:
        self._ports = ports
        self._servers = servers

    async def add(self, context: Context, server_id: str, network_id: str) -> None:
        """Give the server's first port on a network any further address of it.

        Raises NotFound (the server; no port there), Conflict (state, lock), Invalid (no address is left).
        """

        async def change(work: PortWork, port: Port) -> None:
            try:
                await work.add_ips(port.id, port.network_id, port.mac_address, [WantedIp()])
            except MusterError as error:
                if error.code != "network.IpAddressGenerationFailure":
                    raise
                raise Invalid(f"No fixed IP addresses available for network: {network_id}") from error

        def is_there(interface: Interface) -> bool:
            return interface.network_id == network_id

        missing = NotFound(f"Network could not be found for instance {server_id}.", code="compute.network")
        await self._change(context, server_id, is_there, missing, change)

    async def remove(self, context: Context, server_id: str, address: str) -> None:
        """Take an address from whichever port of the server has it. Raises NotFound, Conflict, Invalid (none has)."""
        number = ip_address(address)
        missing = Invalid(f"Instance {server_id} doesn't have fixed IP '{address}'.")

        async def change(work: PortWork, port: Port) -> None:
            found = [one for one in port.fixed_ips if ip_address(one.ip_address) == number]
            if not found:
                raise missing
            await work.remove_ips(port.id, found)

        def has_it(interface: Interface) -> bool:
            return any(ip_address(one.ip_address) == number for one in interface.fixed_ips)

        await self._change(context, server_id, has_it, missing, change)

    async def _change(
        self,
        context: Context,
        server_id: str,
        fits: Callable[[Interface], bool],
        missing: MusterError,
        change: _Change,
    ) -> None:
        async def once() -> None:
            server = await self._servers.get(context, server_id)
            interface = next(filter(fits, server.interfaces), None)
            check_pluggable(context, server, "change_fixed_ips")
            if interface is None:
                raise missing
            async with self._ports.transaction([interface.network_id]) as work:
                found = await store.read_by_ids(work.connection, [server_id], lock=True)
                server = visible(context, found.get(server_id), server_id)
                check_pluggable(context, server, "change_fixed_ips")
                await picture_store.lock_ports(work.connection, [interface.port_id])
                plugged = await server_ports.read_port_ids(work.connection, [server_id])
                if interface.port_id not in plugged.get(server_id, ()):
                    raise missing
                await self._move(work, server_id, interface.port_id, change)

        await redeciding("servers.addresses", once)

    async def _move(self, work: PortWork, server_id: str, port_id: str, change: _Change) -> None:
        before = (await port_store.read(work.connection, [port_id]))[port_id]
        await change(work, before)
        await port_store.change(work.connection, port_id, {}, self._ports.clock())
        after = (await port_store.read(work.connection, [port_id]))[port_id]
        await work.telling.servers_changed([server_id])
        await work.telling.members_changed([member_of(before)], [member_of(after)])
