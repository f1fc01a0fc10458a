"""What is asked of servers that exist, in batches: power, rebuild, deletion; and the end of those that are gone.

A server that is deleted while its host is down ends here, as with Nova; the host removes the guest when it is back.
While the bus is away no host is taken for down by its silence: guests go on, with their addresses.
"""

from collections.abc import Sequence

from msgspec import Struct

from muster.base.coalescer import Coalescer
from muster.base.errors import MusterError, Transient
from muster.base.log import get_logger
from muster.bus.protocol import Bus
from muster.domain.context import Context
from muster.domain.instance_actions import InstanceAction
from muster.domain.server_changes import check_unlocked
from muster.domain.server_shares import ask_of, by_host, total_of
from muster.domain.servers import HOST_TIMEOUT_S, Asked, Server, Verb, ask, deleted, host_is_down
from muster.domain.specs import Power
from muster.services.outbox import Telling
from muster.services.port_batch import PortBatch
from muster.services.port_work import PortWork
from muster.services.redecide import redeciding
from muster.services.servers import visible
from muster.store import hosts as host_store
from muster.store import instance_actions as action_store
from muster.store import outbox as outbox_store
from muster.store import server_ports as port_store
from muster.store import servers as store
from muster.store.engine import Connection, Database
from muster.store.outbox import Change

log = get_logger(__name__)


class _Order(Struct, frozen=True):
    """One request to an existing server."""

    context: Context
    server_id: str
    asked: Asked
    request_id: str


class ServerOrders:
    """The use cases of servers that exist."""

    def __init__(self, database: Database, ports: PortBatch, bus: Bus) -> None:
        self._database = database
        self._ports = ports
        self._bus = bus
        self._orders: Coalescer[_Order, Server] = Coalescer(self._order, name="servers.order")

    async def ask(self, context: Context, server_id: str, asked: Asked, request_id: str) -> Server:
        """Take a request to a server. Raises NotFound, or Conflict (`compute.state`) where its state does not allow it.

        Requests that come together share one transaction.
        """
        return await self._orders.submit(_Order(context, server_id, asked, request_id))

    async def finish(self, work: PortWork, gone: Sequence[Server]) -> None:
        """Free all that these servers held, in the caller's transaction; their rows stay, as deleted."""
        connection = work.connection
        work.tally.give_back(ask_of([server]) for server in gone)
        ports = await port_store.read_port_ids(connection, [server.id for server in gone])
        kept = {port_id for server in gone for port_id in server.kept_port_ids}
        removed = [port_id for port_ids in ports.values() for port_id in port_ids if port_id not in kept]
        await work.remove(removed)
        await work.unbind(sorted(kept), [server.id for server in gone])
        shares = {host_id: (total_of(members), len(members)) for host_id, members in by_host(gone).items()}
        await work.telling.hold(shares)
        await host_store.release(connection, shares)

    async def finish_all(self, gone: Sequence[Server]) -> set[str]:
        """Write these servers as deleted and free all that they held: the ids of those that a mistake kept from it.

        A server that another process finished meanwhile is left alone. One transaction, or two for each halving until
        a server that cannot be ended is alone. Raises Transient when the database is away.
        """
        if not gone:
            return set()
        return await self._finish_apart([server.id for server in gone])

    async def finish_left(self) -> None:
        """Finish the servers whose end no host will report: those without one, whose deletion was taken by a process
        that died before it ended it, and those of hosts that went down before they removed them."""
        async with self._database.read() as connection:
            left = await store.read_ending(connection, seen_after=self._heard_until() - HOST_TIMEOUT_S)
        await self.finish_all(list(left))

    async def _finish_apart(self, server_ids: Sequence[str]) -> set[str]:
        """End these together; if a mistake prevents it, by halves, so that one server keeps no other from its end."""
        try:
            await redeciding("servers.finish", lambda: self._finish_once(server_ids))
        except Transient:
            raise
        except Exception as error:
            if len(server_ids) > 1:
                middle = len(server_ids) // 2
                return await self._finish_apart(server_ids[:middle]) | await self._finish_apart(server_ids[middle:])
            log.error(
                "a server cannot be ended: mend what the error names, it is tried again",
                action="servers.stuck",
                server_id=server_ids[0],
                error=repr(error),
                exc_info=True,
            )
            return set(server_ids)
        return set()

    async def _finish_once(self, server_ids: Sequence[str]) -> None:
        async with self._ports.removal() as work:
            found = await store.read_by_ids(work.connection, server_ids, lock=True)
            gone = [server for server in found.values() if server.deleted_at is None and server.power is Power.ABSENT]
            await self.finish(work, gone)
            now = self._ports.clock()
            # A host that comes back is behind by this number, which no message tells: so it is sent everything, and
            # removes what it still has of these servers.
            heard_until = self._heard_until()
            unheard = {server.host_id for server in gone if server.host_id and host_is_down(server, heard_until)}
            await outbox_store.raise_seqs(work.connection, unheard, now)
            await store.write_states(work.connection, [deleted(server, now) for server in gone])
            await action_store.finish(work.connection, [server.id for server in gone], now)

    def _heard_until(self) -> float:
        """The moment until which hosts that spoke were heard: now, or when the bus went away."""
        return self._ports.clock() - self._bus.away_s(HOST_TIMEOUT_S)

    async def _order(self, orders: list[_Order]) -> list[Server | BaseException]:
        outcomes, ended = await redeciding("servers.order", lambda: self._order_once(orders))
        try:
            await self.finish_all(ended)
        except Exception as error:  # what was asked is committed, and must not be answered as a failure
            log.error("servers end later", action="servers.unfinished", servers=len(ended), error=repr(error))
        return outcomes

    async def _order_once(self, orders: list[_Order]) -> tuple[list[Server | BaseException], list[Server]]:
        now, heard_until = self._ports.clock(), self._heard_until()
        outcomes: list[Server | BaseException] = []
        changed: dict[str, Server] = {}
        ended: dict[str, Server] = {}
        noted: list[tuple[_Order, Server]] = []
        async with self._ports.changes.transaction(self._database) as (connection, telling):
            found = await store.read_by_ids(connection, [order.server_id for order in orders], lock=True)
            for order in orders:
                try:
                    server = visible(
                        order.context, changed.get(order.server_id) or found.get(order.server_id), order.server_id
                    )
                    check_unlocked(order.context, server)
                    if server.power is Power.ABSENT and order.asked.verb is Verb.DELETE:
                        outcomes.append(server)  # being deleted already: once is enough
                        if _nobody_is_at(server, heard_until):
                            ended[server.id] = server
                        continue
                    after = ask(server, order.asked, now)
                except MusterError as error:
                    outcomes.append(error)
                else:
                    outcomes.append(after)
                    changed[after.id] = after
                    noted.append((order, after))
                    if after.power is Power.ABSENT and _nobody_is_at(after, heard_until):
                        ended[after.id] = after
            await self._write_orders(connection, telling, list(changed.values()), noted)
        return outcomes, list(ended.values())

    async def _write_orders(
        self,
        connection: Connection,
        telling: Telling,
        changed: Sequence[Server],
        noted: Sequence[tuple[_Order, Server]],
    ) -> None:
        rebuilt = {server.id for order, server in noted if order.asked.verb is Verb.REBUILD}
        await store.write(connection, [server for server in changed if server.id in rebuilt])
        await store.write_states(connection, [server for server in changed if server.id not in rebuilt])
        now = self._ports.clock()
        await action_store.insert(
            connection,
            [
                InstanceAction(
                    server_id=server.id,
                    action=order.asked.verb.value,
                    request_id=order.request_id,
                    user_id=order.context.user_id,
                    project_id=server.project_id,
                    started_at=now,
                    updated_at=now,
                )
                for order, server in noted
            ],
        )
        telling.note([Change(host_id=server.host_id, server_id=server.id) for server in changed if server.host_id])


def _nobody_is_at(server: Server, heard_until: float) -> bool:
    """Whether no host is going to report the end of a server that is to be deleted, so that it ends here."""
    return server.host_id is None or host_is_down(server, heard_until)
