"""The counters of a soak, in bounded memory however long it goes on; they are saved, and go on after an interruption.

Pure: what happens comes as events, which a journal keeps, and which give the same counters when they are applied again.
Invariants: an operation is counted once, under one combination of versions. Neither faults nor slots of time grow
without end: rare faults become `OTHER`, slots become twice as long.
"""

import msgspec

from muster.soak.histogram import Histogram

OTHER = "other reasons"
MOST_FAULTS = 200
MOST_SLOTS = 240
FIRST_SLOT_S = 5.0
MOST_OUTAGES = 500


class Done(msgspec.Struct, frozen=True, tag=True):
    """An operation has ended; `fault` is None when it went well. `at_s` is on the soak's own clock."""

    at_s: float
    operation: str
    combination: str
    took_s: float
    fault: str | None = None


class Away(msgspec.Struct, frozen=True, tag=True):
    """The cloud did not answer, for so long, and does again; `reason` is the first failure's."""

    at_s: float
    lasted_s: float
    reason: str


class Life(msgspec.Struct, frozen=True, tag=True):
    """A server has come (`begun`), was found again without a user (`taken over`), or is gone (`ended`)."""

    at_s: float
    what: str


Event = Done | Away | Life


class Row(msgspec.Struct):
    """One operation under one combination."""

    failed: int = 0
    ok: Histogram = msgspec.field(default_factory=Histogram)


class Slot(msgspec.Struct):
    """A piece of time: how many operations went well and failed, how long those took that went well, who was there."""

    ok: int = 0
    failed: int = 0
    away_s: float = 0.0
    most_servers: int = 0
    took: dict[str, Histogram] = {}


class Statistics(msgspec.Struct):
    """Everything that is counted. `rows` by combination, then operation; `faults` by operation, then text."""

    rows: dict[str, dict[str, Row]] = {}
    faults: dict[str, dict[str, int]] = {}
    lives: dict[str, int] = {}
    outages: int = 0
    away_s: float = 0.0
    newest_outages: list[Away] = []
    slot_s: float = FIRST_SLOT_S
    slots: list[Slot] = []
    requests: dict[str, Row] = {}
    most_servers: int = 0

    def apply(self, event: Event) -> None:
        """Count what has happened."""
        if isinstance(event, Done):
            self._done(event)
        elif isinstance(event, Away):
            self.outages += 1
            self.away_s += event.lasted_s
            self.newest_outages = [*self.newest_outages, event][-MOST_OUTAGES:]
            self._away(event.at_s, event.at_s + event.lasted_s)
        else:
            self.lives[event.what] = self.lives.get(event.what, 0) + 1

    def alive(self, servers: int, at_s: float) -> None:
        """So many servers were there at that moment."""
        slot = self._slot(at_s)
        slot.most_servers = max(slot.most_servers, servers)
        self.most_servers = max(self.most_servers, servers)

    def requested(self, what: str, took_s: float, *, ok: bool) -> None:
        """A request to an API was answered, or not."""
        row = self.requests.setdefault(what, Row())
        if ok:
            row.ok.add(took_s)
        else:
            row.failed += 1

    def _away(self, from_s: float, until_s: float) -> None:
        """Each slot has as much of an outage as fell into it."""
        self._slot(until_s)  # from now on slots are as long as they will be
        for index in range(int(from_s / self.slot_s), len(self.slots)):
            begins_s = index * self.slot_s
            within_s = min(until_s, begins_s + self.slot_s) - max(from_s, begins_s)
            self.slots[index].away_s += max(0.0, within_s)

    def _done(self, event: Done) -> None:
        row = self.rows.setdefault(event.combination, {}).setdefault(event.operation, Row())
        slot = self._slot(event.at_s)
        if event.fault is None:
            row.ok.add(event.took_s)
            slot.ok += 1
            slot.took.setdefault(event.operation, Histogram()).add(event.took_s)
            return
        row.failed += 1
        slot.failed += 1
        texts = self.faults.setdefault(event.operation, {})
        known = event.fault in texts or sum(map(len, self.faults.values())) < MOST_FAULTS
        text = event.fault if known else OTHER
        texts[text] = texts.get(text, 0) + 1

    def _slot(self, at_s: float) -> Slot:
        while at_s >= MOST_SLOTS * self.slot_s:
            self.slots = [_joined(self.slots[first : first + 2]) for first in range(0, len(self.slots), 2)]
            self.slot_s *= 2
        index = max(0, int(at_s / self.slot_s))
        while len(self.slots) <= index:
            self.slots.append(Slot())
        return self.slots[index]


def _joined(slots: list[Slot]) -> Slot:
    whole = Slot()
    for slot in slots:
        whole.ok += slot.ok
        whole.failed += slot.failed
        whole.away_s += slot.away_s
        whole.most_servers = max(whole.most_servers, slot.most_servers)
        for operation, took in slot.took.items():
            whole.took.setdefault(operation, Histogram()).merge(took)
    return whole
