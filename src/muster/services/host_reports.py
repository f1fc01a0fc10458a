"""What hosts say, written in batches: who is there, who is alive, and what became of servers.

One batch of messages, however many, is one transaction. A gap in a host's numbers makes it report everything; a host
whose heartbeat shows that it missed a message is sent everything. A report's number is written with its last effect,
so that one which a dying process left half written is asked for again. A message that cannot be taken in, whatever is
wrong with it, spoils no other.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence

import msgspec

from muster.base.clock import Clock
from muster.base.errors import MusterError
from muster.base.log import get_logger
from muster.base.metrics import MESSAGES, STATE_CHANGES
from muster.bus.protocol import Bus
from muster.domain.messages import (
    CONTROL_TOPIC,
    Beat,
    Heartbeat,
    Hello,
    Message,
    Report,
    ReportEverything,
    decode,
    encode,
    host_topic,
)
from muster.domain.placement import Overcommit
from muster.domain.servers import Server, observe
from muster.services.dispatcher import Dispatcher
from muster.services.server_orders import ServerOrders
from muster.store import aggregates as aggregate_store
from muster.store import hosts as host_store
from muster.store import instance_actions as action_store
from muster.store import server_ports as port_store
from muster.store import servers as server_store
from muster.store.engine import Connection, Database

log = get_logger(__name__)

_ASK_AGAIN_S = 1.0


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
        self._overcommit = overcommit or Overcommit()
        self._behind: dict[str, tuple[int, int]] = {}
        self._asked: dict[str, float] = {}

    async def run(self) -> None:
        """Serve for ever. What could not be written because the database is away is asked for again by numbers."""
        subscription = await self._bus.subscribe(CONTROL_TOPIC)
        while True:
            messages = [message for message in map(_decoded, await subscription.next_batch()) if message is not None]
            MESSAGES.labels("from_hosts").inc(len(messages))
            try:
                await self._take_apart(messages)
            except MusterError as error:
                log.warning("reports not written", action="reports.delayed", error=error.message)
                await asyncio.sleep(0.5)

    async def _take_apart(self, messages: Sequence[Message]) -> None:
        """Take all in together; if a mistake prevents it, one by one. Raises MusterError when the database is away."""
        try:
            await self.take(messages)
        except MusterError:
            raise
        except Exception as error:
            if len(messages) > 1:
                for message in messages:
                    await self._take_apart([message])
            else:
                log.error("message lost", action="reports.lost", error=repr(error), exc_info=True)

    async def take(self, messages: Sequence[Message]) -> None:
        """Write one batch of messages and answer it."""
        hellos = {message.host_id: message for message in messages if isinstance(message, Hello)}
        if hellos:
            async with self._database.write() as connection:
                await host_store.write_hellos(connection, list(hellos.values()), self._overcommit, self._clock())
                await aggregate_store.apply_zones(connection, hellos)
            await self._dispatcher.send_everything({host_id: hello.nonce for host_id, hello in hellos.items()})
        await self._take_reports([message for message in messages if isinstance(message, Report)])
        beats = {beat.host_id: beat for m in messages if isinstance(m, Heartbeat) for beat in m.beats}
        if beats:
            await self._take_beats(beats)

    async def _take_reports(self, reports: Sequence[Report]) -> None:
        if not reports:
            return
        now = self._clock()
        async with self._database.write() as connection:
            ids = {server.server_id for report in reports for server in report.servers}
            before = await server_store.read_by_ids(connection, ids, lock=True)
            after = dict(before)
            for report in reports:
                for one in report.servers:
                    server = after.get(one.server_id)
                    if server is not None and server.host_id == report.host_id:
                        after[server.id] = observe(server, one, now)
            changed = [server for server in after.values() if server is not before[server.id]]
            gone = [server for server in changed if server.deleted_at is not None]
            await self._write(connection, [server for server in changed if server.deleted_at is None], before, now)
            await port_store.set_status(connection, _plugged(reports, before, after), "ACTIVE")
            seqs = await self._counted(connection, reports)
            late = {server.host_id for server in gone}
            await host_store.raise_report_seqs(connection, {h: seq for h, seq in seqs.items() if h not in late})
        if gone:
            await self._orders.finish_all(gone)
            async with self._database.write() as connection:
                await host_store.raise_report_seqs(connection, {h: seq for h, seq in seqs.items() if h in late})

    async def _counted(self, connection: Connection, reports: Sequence[Report]) -> dict[str, int]:
        """How far each host's reports have come, with these; hosts of which one is missing are asked for everything."""
        seqs = await host_store.read_report_seqs(connection, {report.host_id for report in reports})
        gaps: set[str] = set()
        for report in sorted(reports, key=lambda one: one.to_seq):
            if report.host_id not in seqs:
                continue
            if report.everything or report.from_seq == seqs[report.host_id]:
                seqs[report.host_id] = max(seqs[report.host_id], report.to_seq)
                gaps.discard(report.host_id)
            elif report.to_seq > seqs[report.host_id]:
                gaps.add(report.host_id)
        await self._ask_everything(gaps)
        return seqs

    async def _ask_everything(self, host_ids: Collection[str]) -> None:
        """Ask hosts to report all their servers, each at most once a second: what is on its way may be the answer."""
        now = self._clock()
        due = [host_id for host_id in sorted(host_ids) if now - self._asked.get(host_id, 0.0) >= _ASK_AGAIN_S]
        self._asked |= dict.fromkeys(due, now)
        await self._bus.publish([(host_topic(host_id), encode(ReportEverything(host_id=host_id))) for host_id in due])

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

    async def _take_beats(self, beats: dict[str, Beat]) -> None:
        async with self._database.write() as connection:
            seqs = await host_store.touch(connection, beats, self._clock())
        behind: set[str] = set()
        silent: list[str] = []
        for host_id, (desired_seq, report_seq) in seqs.items():
            beat = beats[host_id]
            lag = (desired_seq, beat.desired_seq)
            # Behind at two beats in a row by the same numbers: the message is lost, not on its way.
            if beat.desired_seq < desired_seq and self._behind.get(host_id) == lag:
                behind.add(host_id)
            self._behind[host_id] = lag
            if beat.report_seq > report_seq:
                silent.append(host_id)
        if behind:
            await self._dispatcher.send_everything(dict.fromkeys(behind, 0))
        await self._ask_everything(silent)


def _plugged(reports: Sequence[Report], before: Mapping[str, Server], after: Mapping[str, Server]) -> list[str]:
    """The servers that ran before and whose hosts have brought about the newest of them, new interfaces included."""
    newest = {one.server_id: one.generation for report in reports for one in report.servers}
    return [
        server.id
        for server in after.values()
        if (server.vm_state, server.task_state, before[server.id].vm_state) == ("active", None, "active")
        and newest[server.id] >= server.generation
    ]


def _decoded(body: bytes) -> Message | None:
    try:
        return decode(body)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        log.warning("message not understood", action="bus.malformed", error=str(error))
        return None
