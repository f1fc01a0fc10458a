"""Holds back boots while the host's memory is short, before the kernel would kill something, and lets them go on again.

A guest's memory is taken when it touches it, not when it starts. So what a guest may take counts in full from its start
until a while after its boot; from then on what the kernel says is what it has. Invariants: nobody is admitted whose
whole memory, with that of guests that started lately, is not there above the floor; who waits keeps their place, and a
large guest is not overtaken by small ones for ever.

What it cannot do: a guest that first touches its memory long after its boot was admitted as one that does not.
"""

from collections.abc import Callable

from msgspec import Struct

from muster.base.log import get_logger
from muster.base.metrics import BOOTS_HELD, MEMORY_AVAILABLE
from muster.base.units import MIB
from muster.host.agenda import Agenda
from muster.host.memory import Memory, ReadMemory

log = get_logger(__name__)


class GuardSettings(Struct, frozen=True, kw_only=True):
    """When boots are held back.

    `floor_mib` is left to the host itself (None: a twentieth of its memory, 128 to 2,048 MiB). `overhead_mib` is what
    a guest's QEMU takes beside the guest's memory. With more than the share `stalled` of the time spent waiting for
    memory nobody is admitted, whatever is free. What a guest may take counts until `settle_s` after its boot. While
    boots are held the host is looked at every `check_s`; a look is good for as long. Only what is held for `warn_s` is
    worth a warning: near its limit a host boots one guest after the other.
    """

    floor_mib: int | None = None
    overhead_mib: int = 100
    stalled: float = 0.10
    settle_s: float = 15.0
    check_s: float = 1.0
    warn_s: float = 60.0


class Guarding(Struct, frozen=True, kw_only=True):
    """What a guard is made of: how memory is read, and for whose metrics."""

    read: ReadMemory
    host: str
    settings: GuardSettings = GuardSettings()


def floor_mib(settings: GuardSettings, total_mib: int) -> int:
    """What is left to the host itself."""
    return settings.floor_mib if settings.floor_mib is not None else max(128, min(2_048, total_mib // 20))


def shortage(settings: GuardSettings, memory: Memory, *, promised_mib: int, needs_mib: int) -> str | None:
    """Why a guest that needs so much cannot be admitted now, in words; None: it can. Pure."""
    if memory.stalled > settings.stalled:
        return f"tasks wait for memory {memory.stalled:.0%} of the time, more than {settings.stalled:.0%}"
    floor = floor_mib(settings, memory.total_mib)
    if memory.available_mib - promised_mib - needs_mib < floor:
        return (
            f"{memory.available_mib} MiB are available and {promised_mib} MiB of them promised to guests that have "
            f"just started; the next one needs {needs_mib} MiB, and {floor} MiB are the host's own"
        )
    return None


class MemoryGuard:
    """A gate of a `BootQueue`. `needs_mib`: a server's memory; `waiting`: how many wait; `wake` has them decided."""

    def __init__(
        self,
        guarding: Guarding,
        agenda: Agenda,
        *,
        needs_mib: Callable[[str], int],
        waiting: Callable[[], int],
        wake: Callable[[], None],
    ) -> None:
        self._read, self._settings = guarding.read, guarding.settings
        self._agenda = agenda
        self._needs_mib = needs_mib
        self._waiting = waiting
        self._wake = wake
        self._promised: dict[str, int] = {}
        self._starts: dict[str, int] = {}
        self._seen: Memory | None = None
        self._seen_at_s = float("-inf")
        self._held_since_s: float | None = None
        self._why, self._warned = "", False
        self._held_gauge = BOOTS_HELD.labels(guarding.host)
        self._held_gauge.set(0)
        MEMORY_AVAILABLE.labels(guarding.host).set_function(lambda: _available_bytes(guarding.read))

    @property
    def holds(self) -> bool:
        """Whether boots are held back."""
        return self._held_since_s is not None

    def admits(self, server_id: str) -> bool:
        """Whether the memory for this server is there. If not, the queue is woken again when it may be."""
        memory = self._look()
        if memory is None:
            return True
        promised_mib = sum(self._promised.values())
        why = shortage(self._settings, memory, promised_mib=promised_mib, needs_mib=self._whole_mib(server_id))
        if why is None:
            self._let_go()
        else:
            self._hold(why)
        return why is None

    def took(self, server_id: str) -> None:
        """The server starts: what it may take is promised to it."""
        self._promised[server_id] = self._whole_mib(server_id)
        self._starts[server_id] = self._starts.get(server_id, 0) + 1

    def over(self, server_id: str) -> None:
        """Its boot is over: soon it will have touched what it touches."""
        if (start := self._starts.get(server_id)) is not None:
            self._agenda.after(self._settings.settle_s, lambda: self._settled(server_id, start))

    def _settled(self, server_id: str, start: int) -> None:
        if self._starts.get(server_id) != start:
            return  # it has started again meanwhile
        del self._starts[server_id]
        self._promised.pop(server_id, None)
        self._seen_at_s = float("-inf")
        if self.holds:
            self._wake()

    def _whole_mib(self, server_id: str) -> int:
        return self._needs_mib(server_id) + self._settings.overhead_mib

    def _look(self) -> Memory | None:
        now_s = self._agenda.now()
        if now_s - self._seen_at_s >= self._settings.check_s:
            self._seen, self._seen_at_s = self._read(), now_s
        return self._seen

    def _hold(self, why: str) -> None:
        self._why = why
        if self._held_since_s is not None:
            return
        self._held_since_s, self._warned = self._agenda.now(), False
        self._held_gauge.set(1)
        self._agenda.after(self._settings.check_s, self._check)

    def _check(self) -> None:
        """While boots are held: have the queue ask again, or let go when nobody is left to ask."""
        if self._held_since_s is None:
            return
        if not self._waiting():
            self._let_go()
            return
        if not self._warned and self._agenda.now() - self._held_since_s >= self._settings.warn_s:
            self._warned = True
            log.warning(
                "memory is short: boots wait until some is free; delete or stop servers, give the host memory or swap, "
                "or lower the memory overcommit",
                action="boots.held",
                why=self._why,
                waiting=self._waiting(),
            )
        self._wake()
        self._agenda.after(self._settings.check_s, self._check)

    def _let_go(self) -> None:
        if self._held_since_s is None:
            return
        held_s = self._agenda.now() - self._held_since_s
        self._held_since_s = None
        self._held_gauge.set(0)
        if self._warned:
            log.warning("boots go on", action="boots.released", held_s=round(held_s, 1), waiting=self._waiting())


def _available_bytes(read: ReadMemory) -> float:
    memory = read()
    return memory.available_mib * MIB if memory else float("nan")
