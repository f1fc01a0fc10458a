"""The reconciler of one host: brings what is to what should be, in batches, whatever was lost or interrupted.

It decides (`host.plan`) about the servers of which something changed, hands them to lanes, and decides again when they
leave; what comes while a lane's batch is in flight becomes the lane's next batch. Nothing runs while nothing changes.
Invariants: a server is in one batch at a time (only a removal does not wait for a soft stop); nothing is done before
both what should be and what is are known in full; a failure concerns its own server only; no retries in a storm.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from muster.base.clock import Clock
from muster.base.log import get_logger
from muster.base.metrics import BATCH_ITEMS
from muster.domain import timeline
from muster.domain.reports import GuestState, ServerReport
from muster.host.agenda import Agenda
from muster.host.boot import BootQueue
from muster.host.boot_settings import BootSettings
from muster.host.desired import Changes, DesiredState
from muster.host.executor import Executor
from muster.host.lookout import Lookout, Take
from muster.host.memory_guard import Guarding, MemoryGuard
from muster.host.news import Gathering, News, Outlet
from muster.host.plan import Action, decide
from muster.host.ports import Guest, Hypervisor, Plumbing
from muster.host.pressure import PressureReader
from muster.host.put_off import PutOff
from muster.host.records import Job, Lane, Record
from muster.host.surroundings import Surroundings
from muster.host.work import Item, Works

_ASK_AGAIN_S = 10.0
# Who is asked to shut down takes its own time, and gains nothing by a batch.
_ONE_BY_ONE = Lane.SOFT_STOP
_BRING_UP = frozenset({Action.CREATE, Action.START, Action.REBUILD})
_BATCH_ITEMS = {lane: BATCH_ITEMS.labels(f"host {lane}") for lane in Lane}


class ReconcilerSettings(Struct, frozen=True, kw_only=True):
    """`stray_grace_s`: how long a guest that nobody told of is left alone, since its message may be on the way, or the
    control plane was set back and somebody wants to look around. Then the database is asked what it is.

    `needs_groups`: ports wait until their security groups are known; `needs_members`: until the other hosts of their
    networks are, since this one has tunnels to them. `boots` None: any number boots at a time.
    `guarding`: boots wait while the host's memory is short; without it, or without `boots`, they do not.
    """

    look_delay_s: float = 0.05
    gathering: Gathering = Gathering()
    stray_grace_s: float = 30.0
    retry_max_s: float = 30.0
    needs_groups: bool = True
    needs_members: bool = False
    boots: BootSettings | None = None
    guarding: Guarding | None = None


class Reconciler:
    """See the module. Belongs to one event loop; what is called returns at once, except `close`."""

    def __init__(
        self,
        adapters: tuple[Hypervisor, Plumbing],
        agenda: Agenda,
        outlet: Outlet,
        *,
        clock: Clock,
        settings: ReconcilerSettings,
        pressure: PressureReader,
    ) -> None:
        self.desired = DesiredState()
        self._agenda, self._outlet, self._clock, self._settings = agenda, outlet, clock, settings
        self._loop = asyncio.get_running_loop()
        self._records: dict[str, Record] = {}
        self._dirty: dict[str, None] = {}
        self._jobs: dict[Lane, Job] = {}  # of lanes that are busy
        self._n_stopping = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._put_off = PutOff(agenda, lambda: self.look(0.0))
        self._lingering: set[str] = set()  # nothing is left of them, but a message of before may still come
        self._strangers: set[str] = set()  # their fates are to be asked
        self._gone: set[str] | None = None  # while a look goes on: forgotten since it began, it may still show them
        self._seen = self._closed = self._pumping = False
        self._snapshots = self._moment = 0
        self._lookout = Lookout(
            adapters[0], agenda, begin=self._begin_look, spawn=self._spawn, delay_s=settings.look_delay_s
        )
        works = Works(*adapters, self.desired)
        guard = self._memory_guard(settings.guarding) if settings.guarding else None
        self.boots = BootQueue(settings.boots, agenda, pressure=pressure, wake=self.wake, gate=guard)
        self._news = News(outlet, self.boots, agenda, settings.gathering)
        self.surroundings = Surroundings(works, self.desired, self._records, agenda, self.wake)
        self.executor = Executor(
            works, self.surroundings, self._records, clock=clock, boots=self.boots, release=self._release
        )

    # What comes in

    def learn(self, changes: Changes, *, everything: bool, sent_at: float) -> None:
        """The desired state has taken in a message, sent at that time; `everything`: a snapshot that lacks nothing."""
        if changes.anew:
            for record in self._records.values():  # of a generation that is given out again
                record.failed = record.ready_for = None
        self._learn_servers(changes.servers, sent_at)
        for server_id in changes.gone:
            record = self._records[server_id]
            record.stray, record.former, record.ended = True, record.spec, None
            if changes.anew:  # as if it had just been found here
                record.spec, record.stray_until_s = None, self._agenda.now() + self._settings.stray_grace_s
            self._dirty[server_id] = None
        self._dirty.update(dict.fromkeys(self._lingering))
        self.surroundings.changed(changes.networks, changes.groups)
        if everything:
            self._snapshots += 1
        if everything or changes.networks or changes.groups:
            self._dirty.update(dict.fromkeys(id_ for id_, r in self._records.items() if r.waits_for is not None))
        if self._seen:
            self.wake()
        elif self.desired.complete:
            self.look(0.0)

    def _learn_servers(self, server_ids: Sequence[str], sent_at: float) -> None:
        if not server_ids:
            return
        now_s = self._clock()
        holders = {port_id: record.server_id for record in self._records.values() for port_id in record.standing}
        for server_id in server_ids:
            record = self._records.get(server_id)
            if record is None:
                record = self._records[server_id] = Record(server_id)
            record.spec, record.stray = self.desired.servers.specs[server_id], False
            record.ended = record.former = None
            former = {port.id: record.taken_from.get(port.id) or holders.get(port.id) for port in record.ports}
            record.taken_from = {id_: holder for id_, holder in former.items() if holder and holder != server_id}
            if self._seen and record.guest is None and record.wanted:
                record.stamp(timeline.DISPATCHED, sent_at)
                record.stamp(timeline.RECEIVED, now_s)
            self._dirty[server_id] = None

    def hear_fates(self, ended: Iterable[str], unknown: Iterable[str]) -> None:
        """Of these strays the database says that they were deleted, or that it does not know them."""
        for server_ids, was_deleted in ((ended, True), (unknown, False)):
            for server_id in server_ids:
                record = self._records.get(server_id)
                if record is not None and record.stray and record.job is None:
                    record.ended, record.held = was_deleted, None
                    self._dirty[server_id] = None
        self.wake()

    def look(self, delay_s: float | None = None) -> None:
        """Observe the hypervisor soon and repair what differs; calls in between share one observation."""
        self._lookout.look(delay_s)

    def every_so_often(self) -> None:
        """The periodic round: look at everything, sweep if something may be left over. One hypervisor call."""
        if self.desired.complete:
            self.surroundings.every_so_often()
            self.look(0.0)

    def guest_changed(self, server_id: str, state: GuestState) -> None:
        """The hypervisor says that a guest changed. It only wakes: events may be late, so nothing is decided by one."""
        if state is GuestState.PENDING:
            self._put_off.hurry(server_id)
            return
        record, runs = self._records.get(server_id), state is GuestState.RUNNING
        if record is not None and record.job is not None:
            record.suspect = record.suspect or not _expected(record.job.lane, runs=runs)
        elif record is None or record.up != runs:
            self.look()

    def power_failed(self) -> None:
        """All guests have ended, and none of them by itself: what should run is started again."""
        for record in self._records.values():
            record.power_failed()
        self.look()

    def lease_seen(self, mac: str, at_s: float) -> None:
        """A guest asked for its lease: its boot is over."""
        server_id = self.boots.lease_seen(mac)
        record = self._records.get(server_id) if server_id else None
        if record is not None:
            record.stamp(timeline.DHCP, at_s)
            self._dirty[record.server_id] = None
            self.wake()

    def snapshot(self) -> list[ServerReport] | None:
        """All servers as they are; None while that is not known."""
        if not self._seen:
            return None
        reports = []
        for record in self._records.values():
            if not record.stray:
                settled = record.job is None and decide(record.view()) is Action.NOTHING
                reports.append(record.report(dict(record.stamps), settled=settled))
                record.unsent = {}
        return reports

    def wake(self) -> None:
        """Decide in the next turn of the loop; whatever else comes in this turn is decided with it."""
        if not self._pumping and not self._closed:
            self._pumping = True
            self._loop.call_soon(self._pump)

    async def close(self, grace_s: float) -> None:
        """Begin nothing more; wait `grace_s` for what is in flight, then give it up: the next start repairs it."""
        self._closed = True
        if self._tasks:
            _, late = await asyncio.wait(list(self._tasks), timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    # Deciding

    def _pump(self) -> None:
        self._pumping = False
        if not self._seen or self._closed:
            return
        dirty, self._dirty = self._dirty, {}
        batches: dict[Lane, list[Item]] = {}
        for server_id in dirty:
            record = self._records.get(server_id)
            if record is not None:
                self._consider(record, batches)
        if self._strangers:
            strangers, self._strangers = self._strangers, set()
            self._outlet.ask_fates(sorted(strangers))
        if Lane.BUILD not in self._jobs and self.surroundings.due:
            batches.setdefault(Lane.BUILD, [])
        if Lane.BOOT not in self._jobs and (admitted := self.boots.take(self._may_boot)):
            batches[Lane.BOOT] = self._admit(admitted)
        for lane, items in batches.items():
            for batch in [[item] for item in items] if lane is _ONE_BY_ONE else [items]:
                self._start_job(Job(lane), batch)

    def _consider(self, record: Record, batches: dict[Lane, list[Item]]) -> None:
        if record.job is not None and (record.wanted or record.job.lane is not Lane.SOFT_STOP):
            return  # decided when it leaves its batch
        action = decide(record.view())
        if not record.up:
            self.boots.end(record.server_id)
        if record.up or action not in _BRING_UP:
            self.boots.withdraw(record.server_id)
        if action is Action.NOTHING:
            self._settle(record)
            return
        lane = _lane_of(record, action)
        if record.held is lane or self._must_wait(record, action):
            return
        if action is Action.START and record.ready_for == record.generation:
            self.boots.offer(record.server_id)
            return
        if lane in self._jobs:
            self._dirty[record.server_id] = None  # for the lane's next batch
        else:
            hard = lane not in (Lane.SOFT_STOP, Lane.KEEP)
            batches.setdefault(lane, []).append(_item(record, action, hard=hard))

    def _must_wait(self, record: Record, action: Action) -> bool:
        """Whether a message that may be on the way has to come first."""
        if action is Action.REMOVE:
            return record.stray and self._is_undecided(record)
        if action is Action.KEEP:
            return False
        if action not in (Action.STOP, Action.RESTART) and self._lacks(record):
            if record.waits_for is None:
                record.waits_for = self._snapshots
                self._outlet.ask_everything()
            # After a whole snapshot without it, the step itself says what is wrong.
            return record.waits_for == self._snapshots
        record.waits_for = None
        return False

    def _is_undecided(self, record: Record) -> bool:
        """Whether nobody has said what this stray is; asked when its grace is over. Without a guest nothing is lost."""
        grace_s = record.stray_until_s - self._agenda.now()
        if record.spec is None and grace_s > 0:
            self._put_off.hold(record, Lane.REMOVE, grace_s)
            return True
        if record.guest is None or record.ended is not None:
            return False
        self._strangers.add(record.server_id)
        self._put_off.hold(record, Lane.REMOVE, _ASK_AGAIN_S)
        return True

    def _lacks(self, record: Record) -> bool:
        groups = self.desired.groups.specs
        return any(
            self._lacks_network(port.network_id)
            or (self._settings.needs_groups and any(id_ not in groups for id_ in port.security_group_ids))
            for port in record.ports
        )

    def _lacks_network(self, network_id: str) -> bool:
        network = self.desired.networks.specs.get(network_id)
        return network is None or (self._settings.needs_members and network.member_generation < 0)

    def _may_boot(self, server_id: str) -> bool:
        record = self._records.get(server_id)
        if record is None or record.job is not None or record.ready_for != record.generation:
            return False
        record.taken_from = {id_: holder for id_, holder in record.taken_from.items() if self._has_card(holder, id_)}
        return not record.taken_from

    def _has_card(self, server_id: str, port_id: str) -> bool:
        """Whether a guest may still have a card for this port: no other can open its tap."""
        record = self._records.get(server_id)
        return record is not None and record.up and port_id in record.standing

    def _memory_guard(self, guarding: Guarding) -> MemoryGuard:
        def needs_mib(server_id: str) -> int:
            spec = self._records[server_id].spec
            return spec.ram_mib if spec else 0

        return MemoryGuard(
            guarding, self._agenda, needs_mib=needs_mib, waiting=lambda: self.boots.waiting, wake=self.wake
        )

    def _admit(self, server_ids: list[str]) -> list[Item]:
        now_s = self._clock()
        for server_id in server_ids:
            self._records[server_id].stamp(timeline.ADMITTED, now_s)
        return [_item(self._records[server_id], Action.START, hard=True) for server_id in server_ids]

    def _settle(self, record: Record) -> None:
        """It is as it should be, or has failed: tell, if that is news; forget it, if nobody wants it."""
        record.answered, record.backoff_s, record.held = record.generation, 0.0, None
        report = record.report(record.unsent, settled=True)
        state = (report.generation, report.state, report.boot_nonce, report.disk_nonce, report.fault)
        if state != record.reported or record.unsent:
            is_news, record.reported, record.unsent = state != record.reported, state, {}
            self._news.tell(report, is_news=is_news, others_stop=self._n_stopping > 0)
        if not record.wanted and record.empty:
            self._forget(record)

    def _forget(self, record: Record) -> None:
        server_id = record.server_id
        if not record.stray and not self.desired.forget_server(server_id):
            self._lingering.add(server_id)
            return
        self._lingering.discard(server_id)
        self._put_off.forget(server_id)
        if self._gone is not None:
            self._gone.add(server_id)
        del self._records[server_id]

    # Doing

    def _start_job(self, job: Job, items: list[Item]) -> None:
        if job.lane is _ONE_BY_ONE:
            self._n_stopping += 1
        else:
            self._jobs[job.lane] = job
        for item in items:
            self._records[item.server_id].job = job
        _BATCH_ITEMS[job.lane].observe(len(items))
        self._spawn(self._run(job, items))

    async def _run(self, job: Job, items: list[Item]) -> None:
        try:
            await self.executor.run(job, items)
        except Exception:  # a bug: say so, and let the servers be looked at again rather than lost
            get_logger(__name__).exception("batch broke", action="host.bug", lane=job.lane)
            for item in items:
                record = self._records.get(item.server_id)
                if record is not None and record.job is job:
                    self._release(job, record, 1.0)
        finally:
            if job.lane is _ONE_BY_ONE:
                self._n_stopping -= 1
            else:
                del self._jobs[job.lane]
            self.wake()

    def _release(self, job: Job, record: Record, retry_after_s: float | None) -> None:
        """A server leaves its batch; with a delay, it is put off and looked at again after it."""
        self._moment += 1
        record.touched = self._moment
        record.job = None
        if retry_after_s is not None:
            lane = Lane.BUILD if job.lane is Lane.BOOT else job.lane
            record.backoff_s = min(self._settings.retry_max_s, max(1.0, 2 * record.backoff_s))
            self._put_off.hold(record, lane, max(retry_after_s, record.backoff_s))
        if record.suspect:
            record.suspect = False
            self.look()
        self._dirty[record.server_id] = None
        self.wake()

    # Observing

    def _begin_look(self) -> Take:
        moment, returning = self._moment, self._put_off.take_returning()
        gone = self._gone = set()

        def take(guests: Mapping[str, Guest] | None) -> None:
            self._gone = None
            if guests is None:
                self._put_off.give_back(returning)
                return
            self._take_in({id_: guest for id_, guest in guests.items() if id_ not in gone}, moment)
            for server_id in returning & self._records.keys():
                self._records[server_id].held = None
                self._dirty[server_id] = None
            if not self._seen:
                self._seen = True
                self._dirty.update(dict.fromkeys(self._records))
                self._outlet.ready()
            self.wake()

        return take

    def _take_in(self, guests: Mapping[str, Guest], moment: int) -> None:
        for server_id in guests.keys() - self._records.keys():
            record = self._records[server_id] = Record(server_id)
            record.stray = True
            record.stray_until_s = self._agenda.now() + self._settings.stray_grace_s
        for server_id, record in self._records.items():
            guest = guests.get(server_id)
            if record.job is not None or record.touched > moment:
                # What was seen may be older than what was done since.
                if guest != record.guest and record.job is None:
                    self.look()
            elif record.see(guest):
                self._dirty[server_id] = None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._closed:
            work.close()
            return
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _lane_of(record: Record, action: Action) -> Lane:
    match action:
        case Action.REMOVE:
            return Lane.REMOVE
        case Action.KEEP:
            return Lane.KEEP
        case Action.STOP:
            return Lane.SOFT_STOP
        case Action.RESTART:
            return Lane.HARD_STOP if record.spec and record.spec.boot_hard else Lane.SOFT_STOP
        case Action.REPLUG:
            return Lane.REPLUG
        case _:
            return Lane.BUILD


def _expected(lane: Lane, *, runs: bool) -> bool:
    """Whether a batch of this lane may be what made a guest run, or stop."""
    return runs if lane is Lane.BOOT else not runs and lane not in (Lane.BUILD, Lane.REPLUG)


def _item(record: Record, action: Action, *, hard: bool) -> Item:
    return Item(
        server_id=record.server_id,
        action=action,
        spec=record.spec or record.former,
        standing=record.standing,
        runs=record.up or (record.guest is not None and record.guest.state is not GuestState.STOPPED),
        hard=hard,
    )
