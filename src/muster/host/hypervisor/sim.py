"""A hypervisor without guests, to try thousands of servers on a laptop, and hosts' misfortunes in a test.

Invariants: it keeps the promises of the `Hypervisor` protocol (idempotent, batches, one guest's failure is its own);
its guests outlive the agent that made them, as real ones do; with the same `rng` the same things happen.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from random import Random
from typing import Generic, TypeVar

from msgspec import Struct

from muster.base.clock import Clock, system_clock
from muster.base.errors import Conflict, NotFound
from muster.domain.diagnostics import Diagnostics
from muster.domain.reports import Fault, GuestState, HostCapacity
from muster.domain.specs import NetworkSpec, SecurityGroupSpec, ServerSpec
from muster.host.ports import Guest, GuestEvent, Outcome, PlumbedPort, Stranger

T = TypeVar("T")

_KEPT = 10_000
_CARD_RETRY_S = 5.0

DEFAULT_CAPACITY = HostCapacity(vcpus=32, ram_mib=131_072, disk_gib=2_000)


class SimSettings(Struct, frozen=True, kw_only=True):
    """How simulated guests behave. `boot_s` is the median time to a guest's lease, spread log-normally by `spread`;
    0 boots at once and shows no lease. `stop_s` is how long running guests take to stop. The others are probabilities
    per start (`prepare_fails`: per new disk, `keeps_card`: that a guest does not let go of its cards when asked);
    a slow boot takes `slow_factor` times as long, a guest that dies does so within `dies_within_s` after its boot.
    """

    capacity: HostCapacity = DEFAULT_CAPACITY
    boot_s: float = 0.0
    stop_s: float = 0.0
    spread: float = 0.3
    start_fails: float = 0.0
    prepare_fails: float = 0.0
    keeps_card: float = 0.0
    slow: float = 0.0
    slow_factor: float = 10.0
    dies: float = 0.0
    dies_within_s: float = 5.0


class SimLease(Struct, frozen=True):
    """A simulated guest asked for its lease."""

    mac_address: str
    at_s: float


class _Feed(Generic[T]):
    """What happens, for one reader at a time; of what nobody reads the newest are kept."""

    def __init__(self) -> None:
        self._items: deque[T] = deque(maxlen=_KEPT)
        self._news = asyncio.Event()

    def put(self, item: T) -> None:
        self._items.append(item)
        self._news.set()

    async def read(self) -> AsyncIterator[T]:
        while True:
            while self._items:
                yield self._items.popleft()
            self._news.clear()
            await self._news.wait()


class SimHypervisor:
    """Guests in memory; see `Hypervisor`. Must be used on one event loop."""

    def __init__(self, rng: Random, settings: SimSettings | None = None, clock: Clock = system_clock) -> None:
        self._rng = rng
        self._settings = settings or SimSettings()
        self._clock = clock
        self._guests: dict[str, Guest] = {}
        self._kept: dict[str, Guest] = {}
        self._names: dict[str, str] = {}
        self._cards: dict[str, frozenset[str]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._events: _Feed[GuestEvent] = _Feed()
        self._leases: _Feed[SimLease] = _Feed()

    async def capacity(self) -> HostCapacity:
        return self._settings.capacity

    async def observe(self) -> Mapping[str, Guest]:
        return dict(self._guests)

    async def fetch(self, servers: Sequence[ServerSpec]) -> list[Outcome]:
        return [Outcome(server.id) for server in servers]

    async def prepare(self, servers: Sequence[ServerSpec]) -> list[Outcome]:
        return [self._prepare(server) for server in servers]

    async def start(self, servers: Sequence[ServerSpec]) -> list[Outcome]:
        return [self._start(server) for server in servers]

    async def replug(self, servers: Sequence[ServerSpec]) -> list[Outcome]:
        return [self._replug(server) for server in servers]

    async def stop(self, server_ids: Sequence[str], *, hard: bool) -> list[Outcome]:
        if self._settings.stop_s and any(server_id in self._cards for server_id in server_ids):
            await asyncio.sleep(self._settings.stop_s)
        for server_id in server_ids:
            self._down(server_id)
        return [Outcome(server_id) for server_id in server_ids]

    async def remove(self, server_ids: Sequence[str]) -> list[Outcome]:
        for server_id in server_ids:
            self._down(server_id)
            self._guests.pop(server_id, None)
            self._names.pop(server_id, None)
        return [Outcome(server_id) for server_id in server_ids]

    async def keep(self, strangers: Sequence[Stranger]) -> list[Outcome]:
        """Kept for as long as this process lives: it is some bytes."""
        for stranger in strangers:
            self._down(stranger.server_id)
            if (guest := self._guests.pop(stranger.server_id, None)) is not None:
                self._kept[stranger.server_id] = guest
        return [Outcome(stranger.server_id) for stranger in strangers]

    async def console_output(self, server_id: str, n_lines: int | None) -> str:
        """What a guest that has booted would have said, also after it was stopped. Raises NotFound."""
        if server_id not in self._guests:
            raise NotFound("no such guest on this host")
        lines = [
            "This server is simulated: no guest runs, and this is all its console will ever say.",
            *(f"[    0.{step:06}] simulated boot: step {step} of 12" for step in range(1, 13)),
            f"{self._names[server_id]} login: ",
        ]
        return "\n".join(lines if n_lines is None else lines[-n_lines:] if n_lines > 0 else [])

    async def diagnostics(self, server_id: str) -> Diagnostics:
        """A guest that takes nothing, so nothing is counted. Raises NotFound, Conflict for one that does not run."""
        if server_id not in self._guests:
            raise NotFound("no such guest on this host")
        if self._guests[server_id].state is not GuestState.RUNNING:
            raise Conflict("the guest does not run")
        return Diagnostics(hypervisor="sim")

    def events(self) -> AsyncIterator[GuestEvent]:
        return self._events.read()

    def leases(self) -> AsyncIterator[SimLease]:
        """Leases as simulated guests get them, for HostParts; for one reader."""
        return self._leases.read()

    async def close(self) -> None:
        """Guests stay for the next agent."""

    def count(self, state: GuestState) -> int:
        """How many guests are in a state."""
        return sum(guest.state is state for guest in self._guests.values())

    @property
    def kept(self) -> frozenset[str]:
        """Ids of the servers whose guests are kept aside."""
        return frozenset(self._kept)

    def cards(self, server_id: str) -> frozenset[str] | None:
        """Ids of the ports that a guest has network cards for; None if it does not run."""
        return self._cards.get(server_id)

    def halt(self, server_id: str) -> None:
        """The guest powers itself off, as a user may do inside it."""
        if server_id in self._guests and self._guests[server_id].state is GuestState.RUNNING:
            self._down(server_id)
            self._events.put(GuestEvent(server_id, GuestState.STOPPED))

    def reboot_host(self) -> None:
        """The machine has restarted: nothing runs, disks are still there, nobody is told."""
        for server_id in self._guests:
            self._down(server_id)

    def _prepare(self, server: ServerSpec) -> Outcome:
        kept = self._kept.pop(server.id, None)
        if kept is not None and kept.disk_nonce >= server.disk_nonce:
            self._guests.setdefault(server.id, kept)
        if server.id not in self._guests:
            if self._happens(self._settings.prepare_fails):
                return Outcome(server.id, Fault(500, "The simulated disk could not be made", "simulated"))
            self._guests[server.id] = Guest(
                server_id=server.id,
                state=GuestState.STOPPED,
                boot_nonce=server.boot_nonce,
                disk_nonce=server.disk_nonce,
            )
        self._names[server.id] = server.hostname
        return Outcome(server.id)

    def _start(self, server: ServerSpec) -> Outcome:
        guest = self._guests.get(server.id)
        if guest is None:
            return Outcome(server.id, Fault(500, "The simulated disk is not there", "started before it was prepared"))
        if guest.state is GuestState.RUNNING and guest.boot_nonce >= server.boot_nonce:
            return Outcome(server.id)
        if self._happens(self._settings.start_fails):
            return Outcome(server.id, Fault(500, "The simulated guest did not start", "simulated"))
        self._down(server.id)
        self._guests[server.id] = Guest(
            server_id=server.id,
            state=GuestState.RUNNING,
            boot_nonce=server.boot_nonce,
            disk_nonce=guest.disk_nonce,
        )
        self._cards[server.id] = _port_ids(server)
        self._boot(server)
        return Outcome(server.id)

    def _replug(self, server: ServerSpec) -> Outcome:
        cards, wanted = self._cards.get(server.id), _port_ids(server)
        if cards is None:
            return Outcome(server.id)
        if cards - wanted and self._happens(self._settings.keeps_card):
            self._cards[server.id] = cards | wanted
            return Outcome(server.id, retry_after_s=_CARD_RETRY_S)
        self._cards[server.id] = wanted
        return Outcome(server.id)

    def _boot(self, server: ServerSpec) -> None:
        settings = self._settings
        boot_s = settings.boot_s and self._rng.lognormvariate(math.log(settings.boot_s), settings.spread)
        if self._happens(settings.slow):
            boot_s *= settings.slow_factor
        dies_after_s = self._rng.uniform(0.0, settings.dies_within_s) if self._happens(settings.dies) else None

        def booted() -> None:
            for port in server.ports:
                self._leases.put(SimLease(port.mac_address, self._clock()))
            if dies_after_s is not None:
                self._later(server.id, dies_after_s, lambda: self.halt(server.id))

        if boot_s > 0:
            self._later(server.id, boot_s, booted)
        elif dies_after_s is not None:
            self._later(server.id, dies_after_s, lambda: self.halt(server.id))

    def _later(self, server_id: str, delay_s: float, action: Callable[[], None]) -> None:
        self._timers[server_id] = asyncio.get_running_loop().call_later(delay_s, action)

    def _down(self, server_id: str) -> None:
        timer = self._timers.pop(server_id, None)
        if timer is not None:
            timer.cancel()
        self._cards.pop(server_id, None)
        guest = self._guests.get(server_id)
        if guest is not None and guest.state is not GuestState.STOPPED:
            self._guests[server_id] = Guest(
                server_id=server_id,
                state=GuestState.STOPPED,
                boot_nonce=guest.boot_nonce,
                disk_nonce=guest.disk_nonce,
            )

    def _happens(self, probability: float) -> bool:
        return probability > 0 and self._rng.random() < probability


def _port_ids(server: ServerSpec) -> frozenset[str]:
    return frozenset(port.id for port in server.ports)


class NullPlumbing:
    """Networks of a host whose guests are simulated: there is nothing to plug. See `Plumbing`."""

    async def links(self, networks: Sequence[NetworkSpec], ports: Sequence[PlumbedPort]) -> None: ...

    async def firewall(self, ports: Sequence[PlumbedPort], groups: Sequence[SecurityGroupSpec]) -> None: ...

    async def dhcp(self, networks: Sequence[NetworkSpec], ports: Sequence[PlumbedPort]) -> None: ...

    async def unplug(self, port_ids: Sequence[str]) -> None: ...

    async def sweep(self, networks: Sequence[NetworkSpec], ports: Sequence[PlumbedPort]) -> bool:
        return True

    async def close(self) -> None: ...
