"""What hosts say, written in batches: who is there, who is alive, and what became of servers.

One batch of messages, however many, is one transaction. A gap in a host's numbers makes it report everything; a host
whose heartbeat shows that it missed a message is sent everything. A report's number is written with its last effect,
so that one which a dying process left half written is asked for again. A message that cannot be taken in, whatever is
wrong with it, spoils no other.

One worker at a time reads the control topic, so what hosts say is read in large batches and in their order. When it is
lost another gets what it was not done with, while it may still be writing that: a report is not written before the one
that precedes it, which would make old states the newest, but waits a moment for it.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial

import msgspec

from muster.base.clock import Clock
from muster.base.errors import Transient
from muster.base.log import get_logger
from muster.base.metrics import BATCH_ITEMS, BATCH_SECONDS, HEARTBEATS, MESSAGES, PHASE_SECONDS, STATE_CHANGES
from muster.base.rest import rest
from muster.bus.protocol import Bus, Subscription
from muster.domain.messages import (
    CONTROL_TOPIC,
    Heartbeat,
    Hello,
    Message,
    Report,
    Reports,
    Strangers,
    decode,
)
from muster.domain.placement import Overcommit
from muster.domain.report_order import in_order
from muster.domain.servers import Server, observe
from muster.domain.timeline import durations_s
from muster.services.dispatcher import Dispatcher
from muster.services.host_beats import HostBeats
from muster.services.outbox import Outbox
from muster.services.postponed import Postponed, at_last
from muster.services.redecide import redeciding
from muster.services.report_requests import ReportRequests
from muster.services.server_orders import ServerOrders
from muster.services.stranger_guests import StrangerGuests
from muster.store import aggregates as aggregate_store
from muster.store import hosts as host_store
from muster.store import instance_actions as action_store
from muster.store import server_ports as port_store
from muster.store import servers as server_store
from muster.store.engine import Connection, Database, Violation

log = get_logger(__name__)

# A report waits for the one before it, which another worker may be writing: so long at first, then twice as long, and
# so on up to the second figure.
_EARLY_S, _EARLY_MAX_S = 0.1, 0.8


class HostReports:
    """Reads the control topic; runs as one task per process."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        clock: Clock,
        dispatcher: Dispatcher,
        orders: ServerOrders,
        overcommit: Overcommit | None = None,
    ) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._dispatcher = dispatcher
        self._orders = orders
        self._outbox = Outbox(clock, dispatcher.wake)
        self._overcommit = overcommit or Overcommit()
        self._postponed = Postponed()
        self._requests = ReportRequests(bus, clock)
        self._beats = HostBeats(database, clock, dispatcher, self._requests, self._postponed)
        self._strangers = StrangerGuests(database, bus, dispatcher)

    async def run(self) -> None:
        """Serve for ever. While the database is away nothing is dropped: all of it would have to be asked for again."""
        subscription = await self._listen()
        try:
            while True:
                bodies = await subscription.next_batch()
                messages = [message for message in map(_decoded, bodies) if message is not None]
                MESSAGES.labels("from_hosts").inc(len(messages))
                HEARTBEATS.inc(sum(isinstance(message, Heartbeat) for message in messages))
                BATCH_ITEMS.labels("reports").observe(len(messages))
                began = time.monotonic()
                await at_last("reports", partial(self._take_apart, messages))
                BATCH_SECONDS.labels("reports").observe(took_s := time.monotonic() - began)
                await rest(took_s)
        finally:
            await self._postponed.cancel()
            await subscription.close()  # another worker reads on

    async def _take_apart(self, messages: Sequence[Message]) -> None:
        """Take all in together; if a mistake prevents it, one by one. Raises Transient when the database is away."""
        try:
            await redeciding("reports", lambda: self.take(messages))
        except Transient:
            raise
        except Exception as error:
            if len(messages) > 1:
                for message in messages:
                    await self._take_apart([message])
            else:
                _log_lost(messages[0], error)

    async def _listen(self) -> Subscription:
        while True:
            try:
                return await self._bus.subscribe(CONTROL_TOPIC)
            except Transient as error:
                log.warning("not listening to hosts", action="reports.delayed", error=error.message)
                await asyncio.sleep(error.retry_after_s)

    async def take(self, messages: Sequence[Message]) -> None:
        """Write one batch of messages and answer it."""
        hellos = {message.host_id: message for message in messages if isinstance(message, Hello)}
        if hellos:
            async with self._database.write() as connection:
                await host_store.write_hellos(connection, list(hellos.values()), self._overcommit, self._clock())
                await aggregate_store.apply_zones(connection, hellos)
            # Apart: who holds hosts' rows must not ask for networks', which all others take first.
            async with self._outbox.transaction(self._database) as (_, telling):
                await telling.hosts_introduced(hellos)
            self._dispatcher.wake()  # what waits since the bus was away is not left to the next look
            nonces = {host_id: hello.nonce for host_id, hello in hellos.items()}
            await self._dispatcher.send_everything(nonces, why="hello")
        await self._take_reports([report for message in messages for report in _reports_in(message)], _EARLY_S)
        await self._beats.take([message for message in messages if isinstance(message, Heartbeat)])
        await self._strangers.tell_fates([message for message in messages if isinstance(message, Strangers)])

    async def _take_reports(self, reports: Sequence[Report], wait_s: float = 0.0) -> None:
        """Write these; those before which one is missing after `wait_s` only: another worker may have it."""
        if not reports:
            return
        now = self._clock()
        async with self._database.write() as connection:
            seqs = await host_store.read_report_seqs(connection, {report.host_id for report in reports})
            order = in_order(reports, seqs, wait=wait_s > 0)
            ids = {server.server_id for report in order.news for server in report.servers}
            before = await server_store.read_by_ids(connection, ids, lock=True)
            after = dict(before)
            for report in order.news:
                for one in report.servers:
                    server = after.get(one.server_id)
                    if server is not None and server.host_id == report.host_id:
                        after[server.id] = observe(server, one, now)
            changed = [server for server in after.values() if server is not before[server.id]]
            gone = [server for server in changed if server.deleted_at is not None]
            await self._write(connection, [server for server in changed if server.deleted_at is None], before, now)
            await port_store.set_status(connection, _plugged(order.news, before, after), "ACTIVE")
            late = {server.host_id for server in gone}
            await host_store.raise_report_seqs(connection, {h: seq for h, seq in order.seqs.items() if h not in late})
        if order.early:
            longer_s = 2 * wait_s if wait_s < _EARLY_MAX_S else 0.0
            self._postponed.later(wait_s, "early reports", lambda: self._take_reports(order.early, longer_s))
        elif order.gaps:
            await self._requests.ask_everything({host_id: seqs[host_id] for host_id in order.gaps}, why="gap")
        if gone:
            unfinished = await self._orders.finish_all(gone)
            late -= {server.host_id for server in gone if server.id in unfinished}  # asked for again, and tried again
            async with self._database.write() as connection:
                await host_store.raise_report_seqs(connection, {h: seq for h, seq in order.seqs.items() if h in late})

    async def _write(
        self, connection: Connection, changed: Sequence[Server], before: dict[str, Server], now: float
    ) -> None:
        await server_store.write_states(connection, changed)
        ended = [server for server in changed if server.task_state is None and before[server.id].task_state]
        failed = [server.id for server in ended if server.vm_state == "error"]
        await action_store.finish(connection, failed, now, "Error")
        await action_store.finish(connection, [server.id for server in ended if server.vm_state != "error"], now)
        await port_store.set_status(connection, [s.id for s in ended if s.vm_state == "active"], "ACTIVE")
        await port_store.set_status(connection, [s.id for s in ended if s.vm_state != "active"], "DOWN")
        for server in ended:
            STATE_CHANGES.labels(server.vm_state).inc()
            if (before[server.id].vm_state, server.vm_state) == ("building", "active"):
                for step, seconds in durations_s(server.timeline).items():
                    PHASE_SECONDS.labels(step).observe(seconds)


def _plugged(reports: Sequence[Report], before: Mapping[str, Server], after: Mapping[str, Server]) -> list[str]:
    """The servers that ran before and whose hosts have brought about the newest of them, new interfaces included."""
    newest = {one.server_id: one.generation for report in reports for one in report.servers}
    return [
        server.id
        for server in after.values()
        if (server.vm_state, server.task_state, before[server.id].vm_state) == ("active", None, "active")
        and newest[server.id] >= server.generation
    ]


def _log_lost(message: Message, error: Exception) -> None:
    if isinstance(message, Hello) and isinstance(error, Violation) and error.constraint == host_store.HOSTNAME_TAKEN:
        log.error(
            "a host is not taken in, since another one has its name: if that one is no more, forget it "
            "(openstack compute service delete); else one of them needs another hostname",
            action="reports.namesake",
            hostname=message.hostname,
            host=message.host_id,
        )
        return
    host_ids = {report.host_id for report in _reports_in(message)}
    if isinstance(message, Heartbeat):
        host_ids = {beat.host_id for beat in message.beats}
    elif isinstance(message, Hello | Strangers):
        host_ids = {message.host_id}
    kind = type(message).__name__
    log.error(
        "message lost", action="reports.lost", kind=kind, hosts=sorted(host_ids), error=repr(error), exc_info=True
    )


def _reports_in(message: Message) -> Sequence[Report]:
    if isinstance(message, Reports):
        return message.reports
    return (message,) if isinstance(message, Report) else ()


def _decoded(body: bytes) -> Message | None:
    try:
        return decode(body)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        log.warning("message not understood", action="bus.malformed", error=str(error))
        return None
