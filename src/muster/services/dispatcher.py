"""Publishes the outbox: one message per host for all of its changes, and everything for a host that asks.

A note is removed only after its message was taken by the bus, so a crash in between publishes it twice, which changes
nothing. Of several processes one at a time publishes, so that a host's notes come in order, and what all others note
meanwhile is one message per host: whoever has claimed the outbox takes what has waited longest, until nothing waits. A
claim ends with its transaction, so a dead process has none, and one that stands still soon has none; a sweep every few
seconds publishes what it left. Nothing else waits for a claim, however slow the bus is.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from msgspec.structs import replace

from muster.base.clock import Clock
from muster.base.errors import MusterError, Stale, Transient
from muster.base.log import get_logger
from muster.base.metrics import BATCH_ITEMS, BATCH_SECONDS, MESSAGES, OUTBOX_SECONDS, RESYNCS
from muster.base.rest import rest
from muster.base.tasks import to_its_end
from muster.bus.protocol import Bus
from muster.domain.messages import Desired, encode, host_topic
from muster.services.host_messages import changes_for, everything_for
from muster.services.image_tickets import ImageTickets
from muster.store import group_members as member_store
from muster.store import network_members as network_store
from muster.store import outbox as store
from muster.store.engine import Connection, Database
from muster.store.outbox import Note

log = get_logger(__name__)

_NOTES = 5_000
# So many hosts hear in the first round, and twice as many in each one that follows until none is left: what is noted
# during a round goes along with the next hosts' messages, and is no second one to hosts that have just had one.
_HOSTS = 50
# How often the claim is kept: several times before it is taken away (`store.outbox.CLAIM_S`).
_KEEP_S = 1.0
# How long a change of the members of a group or network may wait to be published; then hosts are sent everything.
_MEMBERS_KEPT_S = 600.0


@asynccontextmanager
async def _kept(claiming: Connection) -> AsyncIterator[None]:
    """The claim is ours as long as this process does not stand still. Raises Away when it was lost meanwhile."""
    done = asyncio.Event()
    keeping = asyncio.create_task(_keep(claiming, done), name="claim of the outbox")
    try:
        yield
    finally:
        done.set()
        await to_its_end(keeping)  # not cut off: a query that is costs its connection


async def _keep(claiming: Connection, done: asyncio.Event) -> None:
    while not done.is_set():
        try:
            async with asyncio.timeout(_KEEP_S):
                await done.wait()
        except TimeoutError:
            await store.keep(claiming)


class Dispatcher:
    """Runs as one task per process; `wake` may be called from anywhere on its loop."""

    def __init__(
        self, database: Database, bus: Bus, clock: Clock, sweep_s: float = 5.0, tickets: ImageTickets | None = None
    ) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._sweep_s = sweep_s
        self._tickets = tickets
        self._due = asyncio.Event()
        self._hosts = _HOSTS

    def wake(self) -> None:
        """Something is in the outbox."""
        self._due.set()

    async def run(self) -> None:
        """Publish whatever is due, for ever. A database or bus that is away is waited for."""
        while True:
            try:
                self._due.clear()
                while await self.publish():
                    pass
            except MusterError as error:
                log.warning("outbox not published", action="outbox.delayed", error=error.message)
                await asyncio.sleep(1.0)
            try:
                async with asyncio.timeout(self._sweep_s):
                    await self._due.wait()
            except TimeoutError:
                continue

    async def publish(self) -> int:
        """Publish the notes of the hosts that have waited longest, if no other process is publishing, and rest; returns
        how many.

        Three transactions, two of them at a time, and about ten queries for any number; one query where another process
        is at it.
        """
        while await self._is_due():
            async with self._database.hold() as claiming:
                if not await store.claim(claiming):
                    break
                if notes := await store.read(claiming, _NOTES, self._hosts):
                    async with _kept(claiming):
                        began = time.monotonic()
                        await self._publish_apart(notes)
                        took_s = time.monotonic() - began
                        others_wait = len({note.host_id for note in notes}) == self._hosts
                        self._hosts = 2 * self._hosts if others_wait else _HOSTS
                        BATCH_ITEMS.labels("outbox").observe(len(notes))
                        BATCH_SECONDS.labels("outbox").observe(took_s)
                        await rest(took_s)  # meanwhile more is noted for the same hosts
                    return len(notes)
        self._hosts = _HOSTS
        return 0

    async def _is_due(self) -> bool:
        async with self._database.read() as connection:
            return await store.due(connection)

    async def _publish_apart(self, notes: Sequence[Note]) -> None:
        """Publish these together; if a mistake prevents it, host by host, so that one host's keep no other waiting.

        A host whose notes cannot be published misses them in the numbers, and asks for everything.
        """
        try:
            await self._publish(notes)
        except (Transient, Stale):
            raise
        except Exception as error:
            host_ids = {note.host_id for note in notes}
            log.error(
                "notes not published", action="outbox.lost", hosts=len(host_ids), error=repr(error), exc_info=True
            )
            if len(host_ids) == 1:
                await self._remove(notes)
            else:
                for host_id in sorted(host_ids):
                    await self._publish_apart([note for note in notes if note.host_id == host_id])

    async def _publish(self, notes: Sequence[Note]) -> None:
        async with self._database.read(one_picture=True) as connection:
            messages, outdated = await changes_for(connection, notes)
        await self._send(messages)
        if outdated:
            await self.send_everything(dict.fromkeys(outdated, 0), why="members")
        now = self._clock()
        for created_at in {note.host_id: note.created_at for note in reversed(notes)}.values():
            OUTBOX_SECONDS.observe(max(0.0, now - created_at))  # of each host its oldest
        await self._remove(notes)

    async def _remove(self, notes: Sequence[Note]) -> None:
        async with self._database.write() as connection:
            await store.remove(connection, [note.id for note in notes])
            if any(note.member_generation is not None for note in notes):
                for log_of_members in (member_store.log, network_store.log):
                    await log_of_members.forget(connection, self._clock() - _MEMBERS_KEPT_S)

    async def send_everything(self, nonces: Mapping[str, int], *, why: str) -> None:
        """Send hosts all that they should have; `nonces` maps each to the nonce of the Hello that this answers, or 0.

        `why` is how it is counted. About eight queries for any number of hosts.
        """
        RESYNCS.labels(why).inc(len(nonces))
        async with self._database.read(one_picture=True) as connection:
            messages = await everything_for(connection, nonces)
        await self._send(messages)

    async def _send(self, messages: Sequence[Desired]) -> None:
        if self._tickets is not None:
            messages = [self._tickets.attach(message) for message in messages]
        sent = [replace(message, sent_at=self._clock()) for message in messages]
        await self._bus.publish([(host_topic(message.host_id), encode(message)) for message in sent])
        MESSAGES.labels("to_hosts").inc(len(messages))
