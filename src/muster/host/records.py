"""What the agent remembers of each server: the newest spec, the newest observation, and what it is doing about it."""

from enum import StrEnum

from muster.domain.reports import Fault, GuestState, ServerReport
from muster.domain.specs import PortSpec, Power, ServerSpec
from muster.host.plan import View
from muster.host.ports import Guest


class Lane(StrEnum):
    """Batches of one lane follow each other; lanes go on side by side, so that a slow one delays no other. Soft stops
    go on side by side among themselves too.

    A soft stop, a replug and what is kept wait for guests, a build for images, a boot for slots; the rest is quick.
    """

    REMOVE = "remove"
    KEEP = "keep"
    HARD_STOP = "hard-stop"
    SOFT_STOP = "soft-stop"
    BUILD = "build"
    REPLUG = "replug"
    BOOT = "boot"


class Job:
    """A batch that is being worked on; a server is in one at most."""

    __slots__ = ("lane",)

    def __init__(self, lane: Lane) -> None:
        self.lane = lane


class Record:
    """One server's memory. Lives in the agent only: all that must survive it is in the guest or the database."""

    __slots__ = (
        "answered",
        "backoff_s",
        "cards",
        "ended",
        "failed",
        "former",
        "guest",
        "halted_at",
        "held",
        "job",
        "plumbed",
        "ready_for",
        "reported",
        "server_id",
        "spec",
        "stamps",
        "standing",
        "stray",
        "stray_until_s",
        "suspect",
        "taken_from",
        "touched",
        "unsent",
        "up",
        "waits_for",
    )

    def __init__(self, server_id: str) -> None:
        self.server_id = server_id
        self.spec: ServerSpec | None = None
        self.stray = False  # the host should not have it
        self.stray_until_s = 0.0  # until then its message may be on the way
        self.ended: bool | None = None  # whether the database says that it was deleted; else it does not know it
        self.former: ServerSpec | None = None  # what it was, of a stray
        self.guest: Guest | None = None
        self.up = False  # it ran when last seen, and nobody asked it to stop
        self.halted_at: int | None = None
        self.failed: tuple[int, Fault] | None = None
        self.plumbed: tuple[PortSpec, ...] | None = None
        self.standing: frozenset[str] = frozenset()  # ids of the ports that may stand, wholly or in part
        self.taken_from: dict[str, str] = {}  # its ports that stood for another server of the host, by port
        self.cards: frozenset[str] | None = None  # ids of the ports that the running guest has cards for, if known
        self.ready_for: int | None = None  # generation whose disk and network are ready for a start
        self.job: Job | None = None
        self.held: Lane | None = None  # this lane could not do it; it tries again after the agent has looked again
        self.backoff_s = 0.0
        self.touched = 0
        self.suspect = False  # it changed in an unexpected way while in a batch: look afterwards
        self.waits_for: int | None = None  # number of snapshots seen when its network was found missing
        self.answered = 0  # the newest generation that was reached
        self.reported: tuple[object, ...] | None = None
        self.stamps: dict[str, float] = {}
        self.unsent: dict[str, float] = {}

    @property
    def wanted(self) -> bool:
        """The host should have it."""
        return not self.stray and self.spec is not None and self.spec.power is not Power.ABSENT

    @property
    def generation(self) -> int:
        """The generation of the newest spec; 0 without one."""
        return self.spec.generation if self.spec is not None else 0

    @property
    def ports(self) -> tuple[PortSpec, ...]:
        """The ports that it should have."""
        return self.spec.ports if self.spec is not None else ()

    @property
    def empty(self) -> bool:
        """Nothing of it is left on the host."""
        return self.guest is None and self.plumbed is None

    @property
    def fitted(self) -> bool:
        """No port stands but those that it should have, and if it runs, its network cards are theirs."""
        ids = frozenset(port.id for port in self.ports)
        return self.standing <= ids and (self.cards == ids or not self.up)

    def view(self) -> View:
        """What decisions are made from."""
        return View(
            server_id=self.server_id,
            spec=None if self.stray else self.spec,
            guest=self.guest,
            unknown=self.stray and self.ended is False,
            plumbed=self.plumbed == self.ports,
            plugged=self.plumbed is not None,
            fitted=self.fitted,
            halted_at=self.halted_at,
            failed_at=self.failed[0] if self.failed else None,
        )

    def stamp(self, step: str, now_s: float) -> None:
        """A step of its timeline is done; the first time counts."""
        if step not in self.stamps:
            self.stamps[step] = self.unsent[step] = now_s

    def see(self, guest: Guest | None) -> bool:
        """Take in an observation; returns whether it changes anything."""
        runs = guest is not None and guest.state is GuestState.RUNNING
        if self.up and not runs and guest is not None and self.spec is not None:
            self.halted_at = self.spec.generation
        if runs:
            self.halted_at = self.ready_for = None
        if not (self.up and runs):
            self.cards = None  # somebody else has started it, or nobody
        self.up = runs
        changed = guest != self.guest
        self.guest = guest
        return changed

    def power_failed(self) -> None:
        """It has ended, and not by itself; how it stands is still to be seen."""
        self.up, self.cards = False, None

    def may_stand(self, ports: tuple[PortSpec, ...]) -> None:
        """From now on these ports may be there, wholly or in part."""
        self.standing |= {port.id for port in ports}
        if self.plumbed is None:
            self.plumbed = ()

    def prepared(self, spec: ServerSpec) -> None:
        """Its disk is there, made for `spec`."""
        if self.guest is None:
            self.guest = Guest(
                server_id=self.server_id,
                state=GuestState.STOPPED,
                boot_nonce=spec.boot_nonce,
                disk_nonce=spec.disk_nonce,
            )

    def started(self, spec: ServerSpec) -> None:
        """It runs as `spec` asked."""
        self.up = True
        self.cards = frozenset(port.id for port in spec.ports)
        self.halted_at = self.ready_for = None
        self.guest = Guest(
            server_id=self.server_id,
            state=GuestState.RUNNING,
            boot_nonce=spec.boot_nonce,
            disk_nonce=spec.disk_nonce,
        )

    def stopped(self) -> None:
        """It was stopped as asked."""
        self.up = False
        self.halted_at = self.ready_for = None
        if self.guest is not None:
            self.guest = Guest(
                server_id=self.server_id,
                state=GuestState.STOPPED,
                boot_nonce=self.guest.boot_nonce,
                disk_nonce=self.guest.disk_nonce,
            )

    def discarded(self) -> None:
        """Guest and disk are gone; a new life has a new timeline."""
        self.up = False
        self.guest = self.ready_for = self.halted_at = None
        self.stamps, self.unsent = {}, {}

    def report(self, stamps: dict[str, float], *, settled: bool) -> ServerReport:
        """Its state for the control plane. What is not settled yet answers the last generation that was."""
        guest, fault = self.guest, None
        state = GuestState.ABSENT if guest is None else guest.state
        generation = self.generation if settled else self.answered
        if settled and self.wanted and self.failed is not None and self.failed[0] == self.generation:
            state, fault = GuestState.FAILED, self.failed[1]
        elif not settled and state is not GuestState.RUNNING:
            state, generation = GuestState.PENDING, self.generation
        return ServerReport(
            server_id=self.server_id,
            generation=generation,
            state=state,
            boot_nonce=guest.boot_nonce if guest else 0,
            disk_nonce=guest.disk_nonce if guest else 0,
            fault=fault,
            stamps=stamps,
        )
