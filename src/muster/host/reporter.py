"""Sends what hosts observe: numbered per host, batched per process.

Invariants: what is observed while a publish is in flight goes with the next one, and all hosts of the process share
it, one message for many of them; of each server only the newest state travels; a message that the bus did not take is
offered again as it was.
"""

import asyncio
from collections.abc import Callable, Sequence

from muster.base.errors import Transient
from muster.base.log import get_logger
from muster.bus.protocol import Bus
from muster.domain.messages import CONTROL_TOPIC, Message, Report, Reports, encode
from muster.domain.reports import ServerReport

_REPORTS_IN_ONE = 100


class Reporter:
    """One host's reports. `snapshot` gives all its servers, or None while they are not known yet."""

    def __init__(
        self, host_id: str, first_seq: int, courier: "Courier", snapshot: Callable[[], Sequence[ServerReport] | None]
    ) -> None:
        self._host_id = host_id
        self._courier = courier
        self._snapshot = snapshot
        self._pending: dict[str, ServerReport] = {}
        self._everything_due = False
        self._seq = first_seq
        self.published_seq = first_seq

    def put(self, report: ServerReport) -> None:
        """Send this, in place of what waits of the same server."""
        self._keep(report)
        self._courier.wake(self)

    def mention(self, report: ServerReport) -> None:
        """Send this with whatever the process says next: after `flush`, or with a heartbeat at the latest."""
        self._keep(report)
        self._courier.take_along(self)

    def flush(self) -> None:
        """Send what was mentioned."""
        self._courier.wake(self)

    def _keep(self, report: ServerReport) -> None:
        waiting = self._pending.get(report.server_id)
        if waiting is not None and waiting.stamps:
            stamps = {**waiting.stamps, **report.stamps}
            report = ServerReport(
                server_id=report.server_id,
                generation=report.generation,
                state=report.state,
                boot_nonce=report.boot_nonce,
                disk_nonce=report.disk_nonce,
                fault=report.fault,
                stamps=stamps,
            )
        self._pending[report.server_id] = report

    def put_everything(self) -> None:
        """Send all servers, as soon as they are known."""
        self._everything_due = True
        self._courier.wake(self)

    def go_on_after(self, seq: int) -> None:
        """The control plane has come as far as this number. One that is ahead of ours is of an earlier agent, whose
        clock was: what we number lower counts as late, so all is said again with higher ones."""
        if seq > self._seq:
            get_logger(__name__).warning(
                "this host's clock was set back since its last agent started",
                action="reporter.behind",
                host_id=self._host_id,
                behind_s=(seq - self._seq) // 1_000,
            )
            self._seq = self.published_seq = seq
            self.put_everything()

    def take(self) -> Report | None:
        """The next report, numbered; None when there is nothing to say."""
        servers: Sequence[ServerReport] = ()
        everything = False
        if self._everything_due and (snapshot := self._snapshot()) is not None:
            known = {report.server_id for report in snapshot}
            removed = [report for report in self._pending.values() if report.server_id not in known]
            everything, servers = True, [*snapshot, *removed]
            self._everything_due = False
        if not everything:
            if not self._pending:
                return None
            servers = tuple(self._pending.values())
        self._pending.clear()
        self._seq += 1
        return Report(
            host_id=self._host_id,
            from_seq=self._seq - 1,
            to_seq=self._seq,
            everything=everything,
            servers=tuple(servers),
        )

    def published(self) -> None:
        """The bus has all that was taken."""
        self.published_seq = self._seq


class Courier:
    """Publishes for all hosts of a process, one publish at a time."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._reporters: dict[Reporter, None] = {}
        self._along: dict[Reporter, None] = {}
        self._others: dict[str, tuple[str, Message]] = {}
        self._worker: asyncio.Task[None] | None = None

    def wake(self, reporter: Reporter) -> None:
        """This host has something to report."""
        self._reporters[reporter] = None
        self._start()

    def take_along(self, reporter: Reporter) -> None:
        """This host has something to report with the next publish."""
        self._along[reporter] = None

    def send(self, key: str, topic: str, message: Message) -> None:
        """Send a message with the next publish, in place of one that still waits under the same key."""
        self._others[key] = (topic, message)
        self._start()

    async def flush(self) -> None:
        """Wait until all is sent."""
        for reporter in self._along:
            self.wake(reporter)
        while self._worker is not None:
            await asyncio.shield(self._worker)

    async def close(self) -> None:
        """Send nothing more."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)

    def _start(self) -> None:
        if self._worker is None:
            self._worker = asyncio.create_task(self._work(), name="courier")

    async def _work(self) -> None:
        # One turn of the loop first, so that what the other hosts do in this turn goes along.
        await asyncio.sleep(0)
        try:
            while self._reporters or self._others:
                reporters, messages = self._take()
                if messages:
                    await self._publish(messages)
                for reporter in reporters:
                    reporter.published()
        finally:
            self._worker = None

    def _take(self) -> tuple[list[Reporter], list[tuple[str, bytes]]]:
        messages = [(topic, encode(message)) for topic, message in self._others.values()]
        self._others.clear()
        reporters = list(self._reporters | self._along)
        self._reporters.clear()
        self._along.clear()
        reports = [report for reporter in reporters if (report := reporter.take()) is not None]
        for first in range(0, len(reports), _REPORTS_IN_ONE):
            messages.append((CONTROL_TOPIC, encode(_together(reports[first : first + _REPORTS_IN_ONE]))))
        return reporters, messages

    async def _publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        while True:
            try:
                await self._bus.publish(messages)
            except Transient as error:
                await asyncio.sleep(max(0.1, error.retry_after_s))
            except Exception as error:  # the gap in the numbers makes the control plane ask again
                get_logger(__name__).error("messages lost", action="courier.lost", error=repr(error))
                return
            else:
                return


def _together(reports: Sequence[Report]) -> Message:
    return reports[0] if len(reports) == 1 else Reports(reports=tuple(reports))
