"""Boot admission of a host: which of the servers that are ready may start now.

A guest holds its slot until it asked for its lease, until it goes away, or until a limit in seconds. One that gets no
lease holds it for as long as boots have taken lately. Invariants:
slots are given in the order of asking; a server holds at most one; leaving, in whatever state, gives it back.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from muster.base.admission import Admission
from muster.base.log import get_logger
from muster.base.metrics import BOOT_SECONDS, BOOTS, QUEUE_ITEMS
from muster.host.agenda import Agenda, Entry
from muster.host.boot_limit import at_limit, boot_ended, next_limit, too_much
from muster.host.boot_settings import BootSettings
from muster.host.pressure import Pressure, PressureReader

log = get_logger(__name__)

_WAITING = QUEUE_ITEMS.labels("boot")
_LIMIT, _BOOTING = BOOTS.labels("limit"), BOOTS.labels("booting")


class Gate(Protocol):
    """What else a boot needs than a slot: it may say 'nobody now', and then wakes the queue by itself."""

    def admits(self, server_id: str) -> bool:
        """Whether this server may boot now. Asked of the first in the queue that is ready."""

    def took(self, server_id: str) -> None:
        """The server has its slot and boots."""

    def over(self, server_id: str) -> None:
        """Its boot is over."""


class BootQueue:
    """Servers that wait for their boot and those that boot. `settings` None: any number at a time, and no gate."""

    def __init__(
        self,
        settings: BootSettings | None,
        agenda: Agenda,
        *,
        pressure: PressureReader,
        wake: Callable[[], None],
        gate: Gate | None = None,
    ) -> None:
        self._settings = settings
        self._agenda = agenda
        self._pressure = pressure
        self._wake = wake
        self._gate = gate if settings else None
        self._admission = Admission(settings.limit) if settings else None
        self._climb = at_limit(settings.limit) if settings else None
        self._waiting: dict[str, float] = {}  # since when, by the agenda
        self._waited_s: dict[str, float] = {}
        self._booting: dict[str, Entry | None] = {}
        self._began_s: dict[str, float] = {}
        self._macs: dict[str, str] = {}
        self._usual_s = settings.boot_limit_s / 4 if settings else 0.0  # smoothed, of boots whose end was seen
        self._sampling = self._blind = False
        self._halved_until_s = 0.0
        if settings:
            _LIMIT.inc(settings.limit)

    @property
    def limit(self) -> int | None:
        """How many may boot at a time; None is any number."""
        return self._admission.limit if self._admission else None

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def booting(self) -> int:
        """How many hold a slot."""
        return len(self._booting)

    def waited_s(self, server_id: str) -> float:
        """How long this server, which holds a slot, waited for it; 0.0 for one that holds none."""
        return self._waited_s.get(server_id, 0.0)

    def offer(self, server_id: str) -> None:
        """The server wants to boot; it keeps its place if it waits already."""
        if server_id not in self._waiting:
            self._waiting[server_id] = self._agenda.now()
            _WAITING.inc()

    def leave(self, server_id: str) -> None:
        """The server boots no more, or no longer wants to: it leaves the queue and gives back its slot."""
        self.withdraw(server_id)
        self.end(server_id)

    def withdraw(self, server_id: str) -> None:
        """The server waits for no boot, if it did: it leaves the queue."""
        if server_id in self._waiting:
            del self._waiting[server_id]
            _WAITING.dec()

    def end(self, server_id: str) -> None:
        """The boot that it had a slot for is over, if it had one; it may wait for another."""
        if server_id not in self._booting:
            return
        entry = self._booting.pop(server_id)
        _BOOTING.dec()
        self._began_s.pop(server_id, None)
        self._waited_s.pop(server_id, None)
        if entry is not None:
            entry.cancel()
        if self._admission:
            self._admission.release()
        if self._gate:
            self._gate.over(server_id)
        if self._waiting:
            self._wake()

    def take(self, ready: Callable[[str], bool]) -> list[str]:
        """Those that may start now, each with a slot: the first in the queue that are ready."""
        taken: list[str] = []
        for server_id in self._waiting:
            if server_id in self._booting or not ready(server_id):
                continue
            if self._admission and not self._admission.try_acquire():
                break
            if self._gate and not self._gate.admits(server_id):
                if self._admission:
                    self._admission.release()
                break
            if self._gate:
                self._gate.took(server_id)
            taken.append(server_id)
        for server_id in taken:
            since_s = self._waiting.pop(server_id)
            if self._admission:
                self._waited_s[server_id] = self._agenda.now() - since_s
                self._booting[server_id] = None
                _BOOTING.inc()
        if taken:
            _WAITING.dec(len(taken))
        self._sample_later()
        return taken

    def started(self, server_id: str, macs: Iterable[str], *, gets_lease: bool = True) -> None:
        """The guest runs; from now on its lease is awaited, if it gets one, at the longest for the boot's limit."""
        for mac in macs:
            self._macs[mac.lower()] = server_id
        if self._settings and server_id in self._booting:
            limit_s = self._settings.boot_limit_s if gets_lease else self._usual_s
            self._began_s[server_id] = self._agenda.now()
            self._booting[server_id] = self._agenda.after(limit_s, lambda: self.end(server_id))

    def lease_seen(self, mac: str) -> str | None:
        """The guest with this MAC asked for its lease: its boot is over. Returns its id the first time, then None."""
        server_id = self._macs.pop(mac.lower(), None)
        if server_id is None:
            return None
        began_s = self._began_s.get(server_id)
        if began_s is not None:
            took_s = self._agenda.now() - began_s
            self._usual_s += (took_s - self._usual_s) / 8
            BOOT_SECONDS.observe(took_s)
            self._learn()
        self.end(server_id)
        return server_id

    def forget_macs(self, macs: Iterable[str]) -> None:
        """These interfaces are no more."""
        for mac in macs:
            self._macs.pop(mac.lower(), None)

    def _sample_later(self) -> None:
        """Watch the pressure while guests boot, and only then."""
        if self._settings and self._booting and not self._sampling:
            self._sampling = True
            self._pressure()  # what was before the boots does not count
            self._agenda.after(self._settings.sample_s, self._sample)

    def _sample(self) -> None:
        self._sampling = False
        settings, admission = self._settings, self._admission
        if settings is None or admission is None or not self._booting:
            return
        pressure, now_s = self._pressure(), self._agenda.now()
        self._blind = pressure is None
        if now_s >= self._halved_until_s:
            limit = next_limit(settings, admission.limit, pressure, waiting=len(self._waiting))
            if limit != admission.limit:
                self._climb = at_limit(limit)
                self._resize(limit, "pressure", pressure)
            if pressure is not None and too_much(settings, pressure):
                self._halved_until_s = now_s + settings.hold_s
        self._sample_later()
        if self._waiting:
            self._wake()

    def _learn(self) -> None:
        """A boot has ended as it should: how many at a time make the most of them per second?"""
        settings, climb = self._settings, self._climb
        if settings is None or climb is None or climb.limit < settings.limit:
            return
        if settings.by_boot_times or self._blind:
            self._climb = boot_ended(settings, climb, self._agenda.now(), waiting=len(self._waiting))
            if self._climb.limit != climb.limit:
                self._resize(self._climb.limit, "boot times", None)

    def _resize(self, limit: int, why: str, pressure: Pressure | None) -> None:
        admission = self._admission
        if admission is not None:
            _LIMIT.inc(limit - admission.limit)
            admission.resize(limit)
            log.info(
                "boots at a time",
                action="boot.limit",
                limit=limit,
                why=why,
                waiting=len(self._waiting),
                booting=len(self._booting),
                pressure=pressure,
            )
