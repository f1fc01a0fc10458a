"""Hosts' signs of life, and what the numbers in them show: messages lost in either direction, a database set back."""

from collections.abc import Mapping, Sequence

from muster.base.clock import Clock
from muster.base.errors import Stale, Transient
from muster.base.log import get_logger
from muster.domain.messages import Beat, Heartbeat
from muster.services.dispatcher import Dispatcher
from muster.services.postponed import Postponed
from muster.services.report_requests import ReportRequests
from muster.store import hosts as host_store
from muster.store import outbox as outbox_store
from muster.store.engine import Database
from muster.store.hosts import Progress

log = get_logger(__name__)

# A heartbeat may be ahead of the reports, which wait for one another, as long as these come on.
_UNREPORTED_S = 2.0
# What a host should have heard of this long before its heartbeat, and has not, is lost. A change waits for its commit,
# for whoever publishes and for the host's turn of a busy processor: less, and what is on its way is sent again.
_LOST_AFTER_S = 5.0
# So long after it was noted that a host is alive this is noted again: at every second heartbeat, so about as often as
# Nova's services do. Who looks at the note must wait much longer than that before a host is down.
_NOTED_FOR_S = 7.5


class HostBeats:
    """Belongs to the one task that reads what hosts say."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        dispatcher: Dispatcher,
        requests: ReportRequests,
        postponed: Postponed,
    ) -> None:
        self._database = database
        self._clock = clock
        self._dispatcher = dispatcher
        self._requests = requests
        self._postponed = postponed
        self._behind: dict[str, tuple[int, int]] = {}
        self._doubted: set[str] = set()
        self._mistaken = False

    async def take(self, heartbeats: Sequence[Heartbeat]) -> None:
        """Note that these hosts live; those that have missed a message are sent everything.

        One query for all, and a transaction if something is to be written. Raises Transient when the database or the
        bus is away.
        """
        beats = {beat.host_id: (beat, message.sent_at) for message in heartbeats for beat in message.beats}
        if not beats:
            return
        now = self._clock()
        async with self._database.read() as connection:
            said = [beat for beat, _ in beats.values()]
            hosts = await host_store.read_differing(connection, said, seen_before=now - _NOTED_FOR_S)
            if missed := self._missed(beats, hosts):
                missed -= await outbox_store.read_waiting_hosts(connection, missed)
        due = [host_id for host_id, progress in hosts.items() if progress.last_seen_at < now - _NOTED_FOR_S]
        # Nobody is told of anything before it is committed: who knows of more knew another database.
        known = {host_id: beats[host_id][0].desired_seq for host_id in hosts}
        set_back = {host_id: seq for host_id, seq in known.items() if seq > hosts[host_id].desired_seq}
        if due or set_back:
            async with self._database.write() as connection:
                await host_store.note_seen(connection, due, now)
                await host_store.begin_epochs(connection, set_back, now)
        if set_back:
            log.error(
                "the database was set back: if a backup was restored, say once: muster restored",
                action="reports.set_back",
                hosts=len(set_back),
            )
            missed |= set_back.keys()
        if missed:
            log.info("hosts have missed messages", action="reports.behind", hosts=len(missed))
            await self._dispatcher.send_everything(dict.fromkeys(missed, 0), why="behind")
        self._doubt({host_id: beats[host_id][0].report_seq for host_id in hosts}, hosts)

    def _missed(self, beats: Mapping[str, tuple[Beat, float]], hosts: Mapping[str, Progress]) -> set[str]:
        """The hosts to which a message is lost, not on its way: it was due a while before the beat that lacks it.

        Where clocks do not agree, two beats in a row that lack the same say so too.
        """
        lags = {
            host_id: (progress.desired_seq, beats[host_id][0].desired_seq)
            for host_id, progress in hosts.items()
            if beats[host_id][0].desired_seq < progress.desired_seq
        }
        again = {host_id for host_id, lag in lags.items() if self._behind.get(host_id) == lag}
        self._behind = {**{host_id: lag for host_id, lag in self._behind.items() if host_id not in beats}, **lags}
        return again | {
            host_id
            for host_id in lags
            if (due_at := hosts[host_id].desired_at) is not None and due_at + _LOST_AFTER_S <= beats[host_id][1]
        }

    def _doubt(self, said: Mapping[str, int], hosts: Mapping[str, Progress]) -> None:
        """Look later whether reports have come as far as heartbeats `said`, of hosts that are not looked at already."""
        reached = {host_id: progress.report_seq for host_id, progress in hosts.items()}
        ahead = {id_: seq for id_, seq in said.items() if seq > reached[id_] and id_ not in self._doubted}
        if ahead:
            self._doubted |= ahead.keys()
            self._postponed.later(_UNREPORTED_S, "unreported", lambda: self._look(ahead, reached))

    async def _look(self, seqs: Mapping[str, int], before: Mapping[str, int]) -> None:
        """`_ask_unreported`. A mistake is logged once; its hosts are looked at again when a heartbeat is ahead."""
        try:
            await self._ask_unreported(seqs, before)
        except (Transient, Stale):  # done again
            raise
        except Exception as error:
            self._doubted -= seqs.keys()
            if not self._mistaken:
                log.error(
                    "missing reports not looked for",
                    action="reports.unseen",
                    error=repr(error),
                    hosts=len(seqs),
                    exc_info=True,
                )
            self._mistaken = True
        else:
            self._mistaken = False

    async def _ask_unreported(self, seqs: Mapping[str, int], before: Mapping[str, int]) -> None:
        """Ask the hosts whose reports have not come as far as their heartbeats said, and not further than `before`."""
        async with self._database.read() as connection:
            reached = await host_store.read_report_seqs(connection, seqs)
        behind = {host_id for host_id, seq in reached.items() if seq < seqs[host_id]}
        coming = {host_id: seqs[host_id] for host_id in behind if reached[host_id] > before[host_id]}
        silent = {host_id: reached[host_id] for host_id in behind - coming.keys()}
        await self._requests.ask_everything(silent, why="unreported")
        # After what may have to be done again.
        self._doubted -= seqs.keys() - coming.keys()
        if coming:
            self._postponed.later(_UNREPORTED_S, "unreported", lambda: self._look(coming, reached))
