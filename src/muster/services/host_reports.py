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
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial

import msgspec

from muster.base.clock import Clock
from muster.base.errors import Transient
from muster.base.log import get_logger
from muster.base.metrics import HEARTBEATS, MESSAGES, PHASE_SECONDS, RESYNCS, STATE_CHANGES
from muster.bus.protocol import Bus, Subscription
from muster.domain.messages import (
    CONTROL_TOPIC,
    Beat,
    Fates,
    Heartbeat,
    Hello,
    Message,
    Report,
    ReportEverything,
    Reports,
    Strangers,
    decode,
    encode,
    host_topic,
)
from muster.domain.placement import Overcommit
from muster.domain.report_order import in_order
from muster.domain.servers import Server, observe
from muster.domain.timeline import durations_s
from muster.services.dispatcher import Dispatcher
from muster.services.outbox import Outbox
from muster.services.redecide import redeciding
from muster.services.server_orders import ServerOrders
from muster.store import aggregates as aggregate_store
from muster.store import hosts as host_store
from muster.store import instance_actions as action_store
from muster.store import outbox as outbox_store
from muster.store import server_ports as port_store
from muster.store import servers as server_store
from muster.store.engine import Connection, Database
from muster.store.hosts import Progress

log = get_logger(__name__)

_ASK_AGAIN_S = 1.0
# A report waits for the one before it, which another worker may be writing: so long at first, then twice as long, and
# so on up to the second figure. For the same reason a heartbeat may be ahead of the reports, as long as these come on.
_EARLY_S, _EARLY_MAX_S = 0.1, 0.8
_UNREPORTED_S = 2.0
# What a host should have heard of this long before its heartbeat, and has not, is lost. A change waits for its commit,
# for whoever publishes and for the host's turn of a busy processor: less, and what is on its way is sent again.
_LOST_AFTER_S = 5.0


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
        self._outbox = Outbox(clock)
        self._overcommit = overcommit or Overcommit()
        self._behind: dict[str, tuple[int, int]] = {}
        self._asked: dict[str, float] = {}
        self._doubted: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve for ever. While the database is away nothing is dropped: all of it would have to be asked for again."""
        subscription = await self._listen()
        try:
            while True:
                bodies = await subscription.next_batch()
                messages = [message for message in map(_decoded, bodies) if message is not None]
                MESSAGES.labels("from_hosts").inc(len(messages))
                HEARTBEATS.inc(sum(isinstance(message, Heartbeat) for message in messages))
                await _at_last("reports", partial(self._take_apart, messages))
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
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
                log.error("message lost", action="reports.lost", error=repr(error), exc_info=True)

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
                await self._outbox.hosts_introduced(connection, hellos)
            self._dispatcher.wake()
            nonces = {host_id: hello.nonce for host_id, hello in hellos.items()}
            await self._dispatcher.send_everything(nonces, why="hello")
        await self._take_reports([report for message in messages for report in _reports_in(message)], _EARLY_S)
        await self._take_beats([message for message in messages if isinstance(message, Heartbeat)])
        await self._tell_fates([message for message in messages if isinstance(message, Strangers)])

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
            self._later(wait_s, "early reports", lambda: self._take_reports(order.early, longer_s))
        elif order.gaps:
            await self._ask_everything(order.gaps, why="gap")
        if gone:
            await self._orders.finish_all(gone)
            async with self._database.write() as connection:
                await host_store.raise_report_seqs(connection, {h: seq for h, seq in order.seqs.items() if h in late})

    async def _tell_fates(self, questions: Sequence[Strangers]) -> None:
        """Say which of these strangers were deleted, and which the database does not know: it was set back, or the
        guest is of another cloud. A host that should have one of them is sent everything. One query for all."""
        if not questions:
            return
        async with self._database.read() as connection:
            ids = {server_id for question in questions for server_id in question.server_ids}
            known = await server_store.read_by_ids(connection, ids)
        due, answers = set(), []
        for question in questions:
            host_id = question.host_id
            servers = {server_id: known.get(server_id) for server_id in question.server_ids}
            ended = {id_ for id_, server in servers.items() if server and server.deleted_at is not None}
            here = {id_ for id_, server in servers.items() if server and server.host_id == host_id} - ended
            unknown = sorted(servers.keys() - ended - here)
            if unknown:
                log.error("guests unknown to the database", action="reports.unknown", host=host_id, servers=unknown)
            if here:
                due.add(host_id)
            fates = Fates(host_id=host_id, ended=tuple(ended), unknown=tuple(unknown))
            answers.append((host_topic(host_id), encode(fates)))
        await self._bus.publish(answers)
        if due:
            await self._dispatcher.send_everything(dict.fromkeys(due, 0), why="stranger")

    async def _ask_everything(self, host_ids: Collection[str], *, why: str) -> None:
        """Ask hosts to report all their servers, each at most once a second: what is on its way may be the answer."""
        now = self._clock()
        due = [host_id for host_id in sorted(host_ids) if now - self._asked.get(host_id, 0.0) >= _ASK_AGAIN_S]
        self._asked |= dict.fromkeys(due, now)
        RESYNCS.labels(why).inc(len(due))
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
            if (before[server.id].vm_state, server.vm_state) == ("building", "active"):
                for step, seconds in durations_s(server.timeline).items():
                    PHASE_SECONDS.labels(step).observe(seconds)

    async def _take_beats(self, heartbeats: Sequence[Heartbeat]) -> None:
        beats = {beat.host_id: (beat, message.sent_at) for message in heartbeats for beat in message.beats}
        if not beats:
            return
        async with self._database.write() as connection:
            hosts = await host_store.touch(connection, beats, self._clock())
            missed = {host_id for host_id, progress in hosts.items() if self._has_missed(*beats[host_id], progress)}
            if missed:
                missed -= await outbox_store.read_waiting_hosts(connection, missed)
            # Nobody is told of anything before it is committed: who knows of more knew another database.
            known = {host_id: beats[host_id][0].desired_seq for host_id in hosts}
            set_back = {host_id: seq for host_id, seq in known.items() if seq > hosts[host_id].desired_seq}
            await host_store.begin_epochs(connection, set_back, self._clock())
        if set_back:
            log.error("the database was set back", action="reports.set_back", hosts=len(set_back))
            missed |= set_back.keys()
        if missed:
            log.info("hosts have missed messages", action="reports.behind", hosts=len(missed))
            await self._dispatcher.send_everything(dict.fromkeys(missed, 0), why="behind")
        self._doubt({host_id: beats[host_id][0].report_seq for host_id in hosts}, hosts)

    def _doubt(self, said: Mapping[str, int], hosts: Mapping[str, Progress]) -> None:
        """Look later whether reports have come as far as heartbeats `said`, of hosts that are not looked at already."""
        reached = {host_id: progress.report_seq for host_id, progress in hosts.items()}
        ahead = {id_: seq for id_, seq in said.items() if seq > reached[id_] and id_ not in self._doubted}
        if ahead:
            self._doubted |= ahead.keys()
            self._later(_UNREPORTED_S, "unreported", lambda: self._ask_unreported(ahead, reached))

    async def _ask_unreported(self, seqs: Mapping[str, int], before: Mapping[str, int]) -> None:
        """Ask the hosts whose reports have not come as far as their heartbeats said, and not further than `before`."""
        async with self._database.read() as connection:
            reached = await host_store.read_report_seqs(connection, seqs)
        behind = {host_id for host_id, seq in reached.items() if seq < seqs[host_id]}
        coming = {host_id: seqs[host_id] for host_id in behind if reached[host_id] > before[host_id]}
        self._doubted -= seqs.keys() - coming.keys()
        if coming:
            self._later(_UNREPORTED_S, "unreported", lambda: self._ask_unreported(coming, reached))
        await self._ask_everything(behind - coming.keys(), why="unreported")

    def _later(self, after_s: float, what: str, work: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            await asyncio.sleep(after_s)
            try:
                await _at_last(what, work)
            except Exception as error:  # what is lost is asked for again by the next heartbeat
                log.error("message lost", action="reports.lost", error=repr(error), exc_info=True)

        task = asyncio.create_task(run(), name=what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _has_missed(self, beat: Beat, sent_at: float, progress: Progress) -> bool:
        """Whether a message to a host is lost, not on its way: it was due a while before the beat that lacks it.

        Where clocks do not agree, two beats in a row that lack the same say so too.
        """
        lag = (progress.desired_seq, beat.desired_seq)
        again = self._behind.get(beat.host_id) == lag
        self._behind[beat.host_id] = lag
        due = progress.desired_at is not None and progress.desired_at + _LOST_AFTER_S <= sent_at
        return beat.desired_seq < progress.desired_seq and (due or again)


async def _at_last(what: str, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            return await redeciding(what, work)
        except Transient as error:
            log.warning("reports not written", action="reports.delayed", error=error.message)
            await asyncio.sleep(error.retry_after_s)


def _plugged(reports: Sequence[Report], before: Mapping[str, Server], after: Mapping[str, Server]) -> list[str]:
    """The servers that ran before and whose hosts have brought about the newest of them, new interfaces included."""
    newest = {one.server_id: one.generation for report in reports for one in report.servers}
    return [
        server.id
        for server in after.values()
        if (server.vm_state, server.task_state, before[server.id].vm_state) == ("active", None, "active")
        and newest[server.id] >= server.generation
    ]


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
