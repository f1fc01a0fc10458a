"""Interfaces of servers that exist, attached and detached in batches: ports, server and what its host must hear are one
transaction. A port made for a server goes with its interface; one that was there before is only unbound."""

from collections.abc import Sequence

from msgspec.structs import replace

from muster.base.coalescer import Coalescer
from muster.base.errors import Bug, Conflict, Forbidden, Invalid, MusterError, NotFound
from muster.base.ids import new_uuid
from muster.domain.context import Context
from muster.domain.instance_actions import InstanceAction
from muster.domain.ports import NewPort, WantedIp
from muster.domain.server_interfaces import Attach, Detach, attached, check_pluggable, detached
from muster.domain.server_lookups import Named, NicAsked, Picture, network_refusal, port_refusal
from muster.domain.servers import Interface, Server
from muster.services.port_batch import PortBatch
from muster.services.port_work import PortWork
from muster.services.redecide import redeciding
from muster.services.servers import Servers, visible
from muster.store import instance_actions as action_store
from muster.store import server_lookups as lookup_store
from muster.store import server_ports as port_store
from muster.store import servers as store
from muster.store.engine import Connection, Database


class ServerInterfaces:
    """The use cases of interfaces."""

    def __init__(self, database: Database, ports: PortBatch, servers: Servers) -> None:
        self._database = database
        self._ports = ports
        self._servers = servers
        self._attaching: Coalescer[Attach, str] = Coalescer(self._attach, name="servers.attach")
        self._detaching: Coalescer[Detach, None] = Coalescer(self._detach, name="servers.detach")

    async def attach(self, asked: Attach) -> tuple[Server, Interface]:
        """Give a server an interface more; its host plugs it in. Requests that come together share one transaction.

        Raises NotFound (server, network, port), Conflict (state, lock, port or address in use), Invalid, Forbidden.
        """
        port_id = await self._attaching.submit(asked)
        return await self.get(asked.context, asked.server_id, port_id)

    async def detach(self, asked: Detach) -> None:
        """Take an interface from a server; its host unplugs it. Raises NotFound, Conflict."""
        await self._detaching.submit(asked)

    async def get(self, context: Context, server_id: str, port_id: str) -> tuple[Server, Interface]:
        """A server and one of its interfaces. Raises NotFound."""
        server = await self._servers.get(context, server_id)
        for interface in server.interfaces:
            if interface.port_id == port_id:
                return server, interface
        raise NotFound(f"Instance {server_id} does not have a port with id {port_id}", code="compute.interface")

    async def _attach(self, orders: list[Attach]) -> Sequence[str | BaseException]:
        return await redeciding("servers.attach", lambda: self._attach_once(orders))

    async def _attach_once(self, orders: Sequence[Attach]) -> list[str | BaseException]:
        wanted = await self._look(orders)
        network_ids = {nic.network_id for nic in wanted if isinstance(nic, NicAsked) and nic.network_id}
        async with self._ports.transaction(network_ids) as work:
            found = await store.read_by_ids(work.connection, [order.server_id for order in orders], lock=True)
            batch = _Attaching(work, found, self._ports.clock())
            outcomes = await batch.plug([(order, nic) for order, nic in zip(orders, wanted, strict=True)])
            await _write(work, self._ports, batch.changed, batch.done)
        return outcomes

    async def _look(self, orders: Sequence[Attach]) -> list[NicAsked | MusterError]:
        """The interface that each order comes to, or why it cannot be."""
        async with self._database.read() as connection:
            found = await store.read_by_ids(connection, [order.server_id for order in orders])
            named = [_named(order, found.get(order.server_id)) for order in orders]
            picture = await lookup_store.read_picture(connection, named)
        return [_nic(one, picture) for one in named]

    async def _detach(self, orders: list[Detach]) -> Sequence[BaseException | None]:
        return await redeciding("servers.detach", lambda: self._detach_once(orders))

    async def _detach_once(self, orders: Sequence[Detach]) -> list[BaseException | None]:
        server_ids = [order.server_id for order in orders]
        async with self._ports.removal() as work:
            changed = await store.read_by_ids(work.connection, server_ids, lock=True)
            plugged = await port_store.read_port_ids(work.connection, server_ids)
            outcomes: list[BaseException | None] = []
            done: list[InstanceAction] = []
            now = self._ports.clock()
            kept: list[str] = []
            removed: list[str] = []
            for order in orders:
                try:
                    server = visible(order.context, changed.get(order.server_id), order.server_id)
                    check_pluggable(order.context, server, "detach_interface")
                    if order.port_id not in plugged.get(server.id, ()):
                        raise NotFound(f"Port id {order.port_id} could not be found.", code="compute.interface")
                except MusterError as error:
                    outcomes.append(error)
                    continue
                plugged[server.id].remove(order.port_id)
                (kept if order.port_id in server.kept_port_ids else removed).append(order.port_id)
                changed[server.id] = detached(server, order.port_id)
                done.append(_action(order, "detach_interface", now))
                outcomes.append(None)
            await work.remove(removed)
            await work.unbind(kept, server_ids)
            await _write(work, self._ports, changed, done)
        return outcomes


class _Attaching:
    """One batch of interfaces in one transaction. `changed` are the servers as they will be."""

    def __init__(self, work: PortWork, found: dict[str, Server], now: float) -> None:
        self._work = work
        self._now = now
        self.changed = found
        self.done: list[InstanceAction] = []
        self._positions: dict[str, int] = {}

    async def plug(self, wanted: Sequence[tuple[Attach, NicAsked | MusterError]]) -> list[str | BaseException]:
        """The port of each order, or why it gets none."""
        outcomes: dict[int, str | BaseException] = {}
        named: list[tuple[int, Attach, str]] = []
        new: list[tuple[int, Attach, NewPort]] = []
        for index, (order, nic) in enumerate(wanted):
            try:
                server = visible(order.context, self.changed.get(order.server_id), order.server_id)
                check_pluggable(order.context, server, "attach_interface")
                if isinstance(nic, MusterError):
                    raise nic
            except MusterError as error:
                outcomes[index] = error
                continue
            if nic.port_id:
                named.append((index, order, nic.port_id))
            else:
                new.append((index, order, _new_port(server, nic)))
        server_ids = [order.server_id for _, order, _ in (*named, *new)]
        self._positions = await port_store.read_next_positions(self._work.connection, server_ids)
        outcomes |= await self._bind(named)
        outcomes |= await self._make(new)
        for index, (order, nic) in enumerate(wanted):
            outcome = outcomes[index]
            if isinstance(outcome, str) and isinstance(nic, NicAsked):
                server = self.changed[order.server_id]
                self.changed[server.id] = attached(server, outcome, order.tag, kept=nic.port_id is not None)
                self.done.append(_action(order, "attach_interface", self._now))
        return [outcomes[index] for index in range(len(wanted))]

    def _position(self, order: Attach) -> int:
        """The place behind all interfaces that the server has by now."""
        position = self._positions.get(order.server_id, 0)
        self._positions[order.server_id] = position + 1
        return position

    async def _bind(self, named: Sequence[tuple[int, Attach, str]]) -> dict[int, str | BaseException]:
        wanted = [
            port_store.WantedBinding(
                port_id, order.server_id, self.changed[order.server_id].hostname_of_host or "", self._position(order)
            )
            for _, order, port_id in named
        ]
        bound = await self._work.bind(wanted)
        outcomes: dict[int, str | BaseException] = {}
        for index, order, port_id in named:
            if (port_id, order.server_id) in bound:
                bound.remove((port_id, order.server_id))  # a second order for the same comes too late
                outcomes[index] = port_id
            else:
                outcomes[index] = Conflict(f"Port {port_id} is still in use.", code="compute.port_in_use")
        return outcomes

    async def _make(self, new: Sequence[tuple[int, Attach, NewPort]]) -> dict[int, str | BaseException]:
        if not new:
            return {}
        made = await self._work.insert([replace(port, device_position=self._position(order)) for _, order, port in new])
        return {
            index: _in_novas_words(one, port) if isinstance(one, MusterError) else one.id
            for (index, _, port), one in zip(new, made, strict=True)
        }


def _named(order: Attach, server: Server | None) -> Named:
    """What the order names, as the server's own project sees it."""
    project_id = order.context.project_id if server is None else server.project_id
    context = replace(order.context, project_id=project_id)
    nics = () if order.nic is None else (order.nic,)
    return Named(context=context, nics=nics, any_network=order.nic is None)


def _nic(named: Named, picture: Picture) -> NicAsked | MusterError:
    if named.any_network:
        project_id = named.context.project_id
        usable = [one for one in picture.usable if one.shared or one.project_id == project_id]
        if not usable:
            return Invalid(f"No specific network was requested and none are available for project '{project_id}'.")
        if len(usable) > 1:
            return Invalid("Multiple possible networks found, use a Network ID to be more specific.")
        return NicAsked(network_id=usable[0].id)
    [nic] = named.nics
    refusal = port_refusal(nic.port_id, named.context, picture) or network_refusal(nic, named.context, picture)
    if refusal is None or refusal.code == "compute.port_address":
        return nic
    if refusal.code in ("compute.network", "compute.port"):
        return NotFound(refusal.message, code=refusal.code)
    return Conflict(refusal.message, code=refusal.code) if refusal.code == "compute.fixed_ip_in_use" else refusal


def _in_novas_words(error: MusterError, port: NewPort) -> MusterError:
    """The network's error as Nova passes it on."""
    if error.code == "network.OverQuota":
        return Forbidden("Maximum number of ports exceeded", code="compute.quota")
    if error.code == "network.IpAddressGenerationFailure":
        return Invalid(f"No fixed IP addresses available for network: {port.network_id}")
    return error


def _new_port(server: Server, nic: NicAsked) -> NewPort:
    if server.hostname_of_host is None or nic.network_id is None:
        raise Bug("an interface without a host or a network")
    return NewPort(
        id=new_uuid(),
        project_id=server.project_id,
        network_id=nic.network_id,
        fixed_ips=(WantedIp(ip_address=nic.fixed_ip),) if nic.fixed_ip else None,
        device_id=server.id,
        device_owner=f"compute:{server.zone_of_host}",
        binding_host_id=server.hostname_of_host,
        dns_name=server.hostname.partition(".")[0],
    )


def _action(order: Attach | Detach, name: str, now: float) -> InstanceAction:
    return InstanceAction(
        server_id=order.server_id,
        action=name,
        request_id=order.request_id,
        user_id=order.context.user_id,
        project_id=order.context.project_id or "",
        started_at=now,
        updated_at=now,
        finished_at=now,
    )


async def _write(work: PortWork, ports: PortBatch, changed: dict[str, Server], done: Sequence[InstanceAction]) -> None:
    """The servers, what was done to them, and what their hosts must hear."""
    connection: Connection = work.connection
    server_ids = {action.server_id for action in done}
    now = ports.clock()
    await store.write(connection, [replace(changed[server_id], updated_at=now) for server_id in sorted(server_ids)])
    await action_store.insert(connection, done)
    await work.telling.servers_changed(server_ids)
