"""The agent of one host: listens on its topic, keeps what should be, has it done, answers and says hello.

Messages only wake: whatever is lost, doubled or late, the numbers in both directions show it, and everything is asked
for again. Invariant: an answer to an agent that ran before this one is never taken for the present.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack
from random import Random
from typing import Any, Protocol

from msgspec import MsgspecError, Struct

from muster.base.clock import Clock
from muster.base.errors import Transient
from muster.base.log import get_logger
from muster.base.tasks import kept_running
from muster.bus.protocol import Bus, Subscription
from muster.domain.messages import (
    CONTROL_TOPIC,
    Beat,
    ConsoleRequest,
    Desired,
    DiagnosticsRequest,
    Fates,
    Hello,
    ReportEverything,
    Strangers,
    decode,
    host_topic,
)
from muster.domain.network_members import tunnel_address
from muster.domain.reports import HostCapacity, ServerReport
from muster.host.agenda import Agenda
from muster.host.answers import Answers
from muster.host.boot_settings import BootSettings
from muster.host.desired import Changes, DesiredState
from muster.host.greeter import Greeter, Patience
from muster.host.image_tickets import ImageTickets
from muster.host.memory_guard import Guarding
from muster.host.news import Outlet
from muster.host.ports import Hypervisor, Plumbing
from muster.host.power_failure import PowerFailure
from muster.host.pressure import PressureReader, PsiReader
from muster.host.reconciler import Reconciler, ReconcilerSettings
from muster.host.reporter import Courier, Reporter


class Lease(Protocol):
    """What a watch of the DHCP server's leases yields: whose lease was seen, and when (Unix seconds)."""

    @property
    def mac_address(self) -> str: ...

    @property
    def at_s(self) -> float: ...


class Watcher(Protocol):
    """Hears of each change of what should be, before anything is done about it."""

    def learn(self, desired: DesiredState, changes: Changes) -> None: ...


class HostIdentity(Struct, frozen=True, kw_only=True):
    """Who a host is, as its Hello says. `host_id` must stay the same over restarts."""

    host_id: str
    hostname: str
    hypervisor_type: str
    hypervisor_version: int = 1
    availability_zone: str = "nova"
    host_ip: str = "127.0.0.1"
    firewall: bool = True
    cpu_info: str = ""


class HostParts(Struct, frozen=True, kw_only=True):
    """What an agent is made of; it owns the adapters from then on and closes them.

    `leases` tells of guests that got their lease (it ends a boot). `boots` None: any number boots at a time.
    `guarding` holds boots back while memory is short (with `boots` only).
    `watcher` hears what should be (the metadata service describes servers by it); `tickets` keeps what images are
    fetched with; `power` tells of guests that ended without having gone down by themselves.
    """

    identity: HostIdentity
    hypervisor: Hypervisor
    plumbing: Plumbing
    leases: AsyncIterator[Lease] | None = None
    boots: BootSettings | None = None
    guarding: Guarding | None = None
    pressure: PressureReader | None = None
    watcher: Watcher | None = None
    tickets: ImageTickets | None = None
    power: PowerFailure | None = None


class AgentSettings(Struct, frozen=True, kw_only=True):
    """Times of agents, in seconds. `hello_first_s` doubles with each Hello that was not answered."""

    reconcile_every_s: float = 60.0
    heartbeat_every_s: float = 5.0
    hello_first_s: float = 2.0
    hello_max_s: float = 30.0
    resync_delay_s: float = 0.5
    stray_grace_s: float = 30.0
    close_grace_s: float = 5.0


class Process(Struct, frozen=True, kw_only=True):
    """What all agents of a process share."""

    bus: Bus
    courier: Courier
    agenda: Agenda
    clock: Clock
    rng: Random
    settings: AgentSettings


class HostAgent:
    """One host's agent; see the module. `start`, then `close`."""

    def __init__(self, parts: HostParts, process: Process) -> None:
        self._parts, self._process = parts, process
        self._id = parts.identity.host_id
        self._nonce = process.rng.getrandbits(62) + 1
        # Greater than any number of an earlier life, so that its reports cannot be taken for these; should the clock
        # have been set back since, the control plane's answer to the Hello says so.
        first_seq = int(process.clock() * 1000)
        self._first_seq = first_seq
        self.reporter = Reporter(self._id, first_seq, process.courier, self._snapshot)
        self.reconciler = Reconciler(
            (parts.hypervisor, parts.plumbing),
            process.agenda,
            Outlet(
                self.reporter.put,
                self.reporter.mention,
                self.reporter.flush,
                self.reporter.put_everything,
                self._miss,
                self._ask_fates,
            ),
            clock=process.clock,
            settings=ReconcilerSettings(
                stray_grace_s=process.settings.stray_grace_s,
                needs_groups=parts.identity.firewall,
                needs_members=parts.identity.firewall and tunnel_address(parts.identity.host_ip) is not None,
                boots=parts.boots,
                guarding=parts.guarding,
            ),
            pressure=parts.pressure or PsiReader(),
        )
        self._desired = self.reconciler.desired
        self._capacity: HostCapacity | None = None
        settings = process.settings
        patience = Patience(
            resync_delay_s=settings.resync_delay_s,
            hello_first_s=settings.hello_first_s,
            hello_max_s=settings.hello_max_s,
        )
        self._greeter = Greeter(process.courier, process.agenda, process.rng, patience)
        self._answers = Answers(parts.hypervisor, process.courier)
        self._subscription: Subscription | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._missing = False
        self._closed = False
        #: The control plane has answered: it knows this host.
        self.welcomed = asyncio.Event()

    @property
    def beat(self) -> Beat | None:
        """The host's sign of life; None before it has started."""
        if self._capacity is None:
            return None
        return Beat(host_id=self._id, desired_seq=self._desired.seq, report_seq=self.reporter.published_seq)

    async def start(self) -> None:
        """Listen, say hello, and from then on do what is asked. Raises Transient when bus or hypervisor is away."""
        if self._subscription is None:
            self._subscription = await self._process.bus.subscribe(host_topic(self._id))
        self._capacity = await self._parts.hypervisor.capacity()
        self._spawn(self._listen(self._subscription))
        self._spawn(kept_running("guests' events", self._watch_guests))
        if self._parts.leases is not None:
            self.reconciler.executor.track_leases()
            self._spawn(self._watch_leases(self._parts.leases))
        if self._parts.tickets is not None:
            self._parts.tickets.ask_by(self._miss)
        if self._parts.power is not None:
            self._parts.power.heard_by(self.reconciler.power_failed)
        self._greeter.introduce(self._hello(self._capacity))
        self._reconcile_later()

    async def close(self) -> None:
        """Stop listening, let what is in flight end, close the adapters. Guests and networks go on.

        Each is closed, also where another cannot be; raises what became of that.
        """
        self._closed = True
        self._greeter.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        async with AsyncExitStack() as last_first:
            last_first.push_async_callback(self._parts.plumbing.close)
            last_first.push_async_callback(self._parts.hypervisor.close)
            if self._subscription is not None:
                last_first.push_async_callback(self._subscription.close)
            await self.reconciler.close(self._process.settings.close_grace_s)

    def _snapshot(self) -> list[ServerReport] | None:
        """All servers, for a report of everything that is about to be sent."""
        reports = self.reconciler.snapshot()
        if reports is not None and self._desired.forgetful:
            self._miss()  # the reports of removals may be what was lost: what should be still has those servers
        return reports

    def lease_seen(self, mac: str, at_s: float) -> None:
        """A guest with this MAC asked for its lease: its boot is over. For adapters that call instead of yielding."""
        self.reconciler.lease_seen(mac, at_s)

    # Listening

    async def _listen(self, subscription: Subscription) -> None:
        while True:
            try:
                bodies = await subscription.next_batch()
            except Transient as error:
                await asyncio.sleep(max(0.1, error.retry_after_s))
                continue
            for body in bodies:
                try:
                    self._hear(body)
                except Exception as error:  # a mistake with one message is no reason to be deaf to the others
                    get_logger(__name__).error("message lost", action="agent.bug", error=repr(error), exc_info=True)
                    self._miss()

    def _hear(self, body: bytes) -> None:
        try:
            message = decode(body)
        except MsgspecError as error:
            get_logger(__name__).warning("not a message", action="agent.undecodable", error=str(error))
            return
        match message:
            case Desired(host_id=self._id):
                self._hear_desired(message)
            case ReportEverything(host_id=self._id):
                self.reporter.put_everything()
            case Fates(host_id=self._id):
                self.reconciler.hear_fates(message.ended, message.unknown)
            case ConsoleRequest(host_id=self._id):
                self._spawn(self._answers.console(message))
            case DiagnosticsRequest(host_id=self._id):
                self._spawn(self._answers.diagnostics(message))
            case _:
                get_logger(__name__).warning("not for this host", action="agent.misrouted", host_id=self._id)

    def _hear_desired(self, message: Desired) -> None:
        if message.nonce not in (0, self._nonce):
            return  # the answer to a Hello of an agent before this one
        if message.nonce:
            self.welcomed.set()
        self.reporter.go_on_after(message.report_seq)
        if self._parts.tickets is not None:
            self._parts.tickets.learn(message.tickets)
        changes = self._desired.apply(message)
        if self._parts.watcher is not None:
            self._parts.watcher.learn(self._desired, changes)
        is_newest = self._desired.is_newest(message)
        self.reconciler.learn(changes, everything=is_newest, sent_at=message.sent_at)
        if is_newest:
            self._missing = False
        if not self._desired.behind and not self._missing:
            self._greeter.stop()
        elif self._desired.complete:
            self._greeter.miss()

    def _miss(self) -> None:
        self._missing = True
        self._greeter.miss()

    def _ask_fates(self, server_ids: Sequence[str]) -> None:
        question = Strangers(host_id=self._id, server_ids=tuple(server_ids))
        self._process.courier.send(f"strangers {self._id}", CONTROL_TOPIC, question)

    def _hello(self, capacity: HostCapacity) -> Hello:
        identity = self._parts.identity
        return Hello(
            host_id=identity.host_id,
            hostname=identity.hostname,
            hypervisor_type=identity.hypervisor_type,
            hypervisor_version=identity.hypervisor_version,
            capacity=capacity,
            availability_zone=identity.availability_zone,
            host_ip=identity.host_ip,
            firewall=identity.firewall,
            cpu_info=identity.cpu_info,
            nonce=self._nonce,
            report_seq=self._first_seq,
        )

    def _reconcile_later(self) -> None:
        if self._closed:
            return
        every_s = self._process.settings.reconcile_every_s * self._process.rng.uniform(0.9, 1.1)
        self._process.agenda.after(every_s, self._reconcile)

    def _reconcile(self) -> None:
        self.reconciler.every_so_often()
        self._reconcile_later()

    # Watching

    async def _watch_guests(self) -> None:
        while True:
            try:
                async for event in self._parts.hypervisor.events():
                    self.reconciler.guest_changed(event.server_id, event.state)
                return
            except Exception as error:  # without events, what guests do by themselves is seen a minute late
                get_logger(__name__).error("events broke off", action="agent.events", error=repr(error))
                self.reconciler.look()
                await asyncio.sleep(1.0)

    async def _watch_leases(self, leases: AsyncIterator[Lease]) -> None:
        async for lease in leases:
            self.reconciler.lease_seen(lease.mac_address, lease.at_s)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            get_logger(__name__).error("agent's task ended", action="agent.bug", error=repr(error))
