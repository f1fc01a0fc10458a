"""Carries a batch of servers through the steps of its lane, in the one order, and keeps their records true.

Invariants: a server goes on to a step only when the step before it is done for it; a server that is no longer wanted
leaves the batch before its next step; a record says what was really done, step by step, so that stopping anywhere is
repaired by deciding again.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from muster.base.clock import Clock
from muster.base.errors import Transient
from muster.base.log import get_logger
from muster.domain import timeline
from muster.domain.reports import Fault
from muster.domain.specs import ServerSpec
from muster.host.boot import BootQueue
from muster.host.plan import STEPS_IN_ORDER, STEPS_OF, Action, Step
from muster.host.ports import Outcome
from muster.host.records import Job, Lane, Record
from muster.host.steps import Result, carry_out
from muster.host.surroundings import Surroundings
from muster.host.work import Changed, Item, Works

_OF_LANE = {
    Lane.REMOVE: STEPS_OF[Action.REMOVE],
    Lane.KEEP: STEPS_OF[Action.KEEP],
    Lane.HARD_STOP: STEPS_OF[Action.STOP],  # a guest to be restarted is stopped here; then its start is decided
    Lane.SOFT_STOP: STEPS_OF[Action.STOP],
    Lane.BUILD: STEPS_OF[Action.REBUILD] - {Step.ADMISSION, Step.START},
    Lane.REPLUG: STEPS_OF[Action.REPLUG],
    Lane.BOOT: frozenset({Step.START}),  # what it takes has been admitted
}
LANE_STEPS = {lane: tuple(step for step in STEPS_IN_ORDER if step in steps) for lane, steps in _OF_LANE.items()}

# A failure at one of these is the server's: it is FAILED until asked for anew. At any other it is tried again.
_FATAL = frozenset({Step.FETCH, Step.IMAGE, Step.LINKS, Step.FIREWALL, Step.DHCP, Step.START})
_STAMPS = {
    Step.IMAGE: timeline.IMAGED,
    Step.FIREWALL: timeline.PLUMBED,
    Step.DHCP: timeline.LEASABLE,
    Step.START: timeline.STARTED,
}


class Executor:
    """Runs batches. `release` is called for each server that leaves its batch: with a delay when it is put off."""

    def __init__(
        self,
        works: Works,
        surroundings: Surroundings,
        records: Mapping[str, Record],
        *,
        clock: Clock,
        boots: BootQueue,
        release: Callable[[Job, Record, float | None], None],
    ) -> None:
        self._works = works
        self._surroundings = surroundings
        self._records = records
        self._clock = clock
        self._boots = boots
        self._release = release
        self._track_macs = boots.limit is not None

    def track_leases(self) -> None:
        """Leases are watched: remember who they belong to."""
        self._track_macs = True

    async def run(self, job: Job, items: Sequence[Item]) -> None:
        """Carry the batch through. One adapter call per step. Raises nothing but what is a bug."""
        changed = Changed()
        if job.lane is Lane.BUILD:
            try:
                changed = await self._surroundings.enter()
            except Transient as error:
                self._leave(job, items, error.retry_after_s)
                return
        for step in LANE_STEPS[job.lane]:
            items = self._still_wanted(job, items)
            mine = [item for item in items if step in STEPS_OF[item.action]]
            if mine:
                lost = await self._do(job, step, mine, changed)
                items = [item for item in items if item.server_id not in lost]
            elif changed.parts(step):
                await self._surroundings.apply(step, changed)
        self._leave(job, items)

    async def _do(self, job: Job, step: Step, items: Sequence[Item], changed: Changed) -> frozenset[str]:
        """One step of a batch; returns those that the batch goes on without."""
        by_id = {item.server_id: item for item in items}
        if step is Step.LINKS:
            self._plugging(items)
        again = any(record.backoff_s for server_id in by_id if (record := self._records.get(server_id)))
        result = await carry_out(step, list(by_id), self._work(step, by_id, changed), again=again)
        if not result.done and changed.parts(step):
            # What they share may be at fault, or away, not they.
            await self._surroundings.apply(step, changed)
            result = await carry_out(step, list(by_id), self._work(step, by_id, Changed()), again=again)
        self._note_done(job, step, [by_id[server_id] for server_id in result.done])
        return self._note_lost(job, step, result, by_id)

    def _work(
        self, step: Step, items: Mapping[str, Item], changed: Changed
    ) -> Callable[[Sequence[str]], Awaitable[Sequence[Outcome] | None]]:
        return lambda ids: self._works.do(step, [items[id_] for id_ in ids], changed)

    def _plugging(self, items: Sequence[Item]) -> None:
        for item in items:
            if item.spec is not None:
                self._records[item.server_id].may_stand(item.spec.ports)

    def _note_done(self, job: Job, step: Step, items: Sequence[Item]) -> None:
        now_s, stamp = self._clock(), _STAMPS.get(step)
        if step is Step.KEEP and items:
            get_logger(__name__).error(
                "guests that the database does not know are shut down, their disks kept for a while: muster kept",
                action="host.kept",
                servers=[item.server_id for item in items],
            )
        for item in items:
            record = self._records.get(item.server_id)
            if record is None or record.job is not job:
                continue  # a removal has taken it over
            self._effect(step, item, record)
            if stamp is not None and item.action is not Action.PLUMB:
                record.stamp(stamp, now_s)

    def _effect(self, step: Step, item: Item, record: Record) -> None:
        match step:
            case Step.STOP:
                record.stopped()
                self._boots.leave(item.server_id)
            case Step.UNPLUG:
                record.plumbed, record.standing = None, frozenset()
                self._surroundings.loosen()
            case Step.KEEP | Step.DISCARD:
                record.discarded()
                self._boots.forget_macs(port.mac_address for port in record.ports)
            case Step.IMAGE if item.spec is not None:
                record.prepared(item.spec)
            case Step.LINKS if item.spec is not None and not item.runs:
                self._released(item.spec, record)
            case Step.REPLUG if item.spec is not None and record.up:
                record.cards = frozenset(port.id for port in item.spec.ports)
            case Step.RELEASE if item.spec is not None:
                self._released(item.spec, record)
            case Step.DHCP if item.spec is not None:
                record.plumbed = item.spec.ports
                record.ready_for = item.spec.generation if item.action is not Action.PLUMB else None
            case Step.START if item.spec is not None:
                record.started(item.spec)
                macs = [port.mac_address for port in item.spec.ports] if self._track_macs else ()
                self._boots.started(item.server_id, macs, gets_lease=self._works.gives_lease(item.spec))

    def _released(self, spec: ServerSpec, record: Record) -> None:
        """No port of it stands but those of `spec`."""
        ids = frozenset(port.id for port in spec.ports)
        if record.standing - ids:
            self._surroundings.loosen()  # their networks may be needed no more
        record.standing = ids

    def _note_lost(self, job: Job, step: Step, result: Result, items: Mapping[str, Item]) -> frozenset[str]:
        for server_id, fault in result.faults.items():
            self._failed(job, step, items[server_id], fault)
        for server_id in result.later:
            self._leave(job, [items[server_id]], result.retry_after_s)
        return frozenset(result.faults) | frozenset(result.later)

    def _failed(self, job: Job, step: Step, item: Item, fault: Fault) -> None:
        record = self._records.get(item.server_id)
        if record is None or record.job is not job:
            return  # a removal has taken it over
        if step not in _FATAL or item.action is Action.PLUMB or item.spec is None:
            self._leave(job, [item], 0.0)
            return
        record.failed = (item.spec.generation, fault)
        self._surroundings.loosen()
        self._leave(job, [item])

    def _still_wanted(self, job: Job, items: Sequence[Item]) -> list[Item]:
        if job.lane is Lane.REMOVE:
            return list(items)
        wanted: list[Item] = []
        others: list[Item] = []
        for item in items:
            record = self._records.get(item.server_id)
            if record is not None and record.job is job:
                fits = record.stray if job.lane is Lane.KEEP else record.wanted
                (wanted if fits else others).append(item)
        self._leave(job, others)
        return wanted

    def _leave(self, job: Job, items: Sequence[Item], retry_after_s: float | None = None) -> None:
        for item in items:
            record = self._records.get(item.server_id)
            if record is not None and record.job is job:
                if job.lane is Lane.BOOT and not record.up:
                    self._boots.leave(item.server_id)
                self._release(job, record, retry_after_s)
