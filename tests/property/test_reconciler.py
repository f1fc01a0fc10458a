"""Whatever the bus loses, doubles, delays and reorders, and whenever agents crash and hosts reboot: once things calm
down, the host is as it should be, nothing is left over, and on the way no guest started (or got a network card) before
its network was ready and its network's other hosts known, none lost a tap that it had open, none was stopped or
started without being asked."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from random import Random

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.host_adapters import Journal, MemoryPlumbing, RecordingHypervisor

from muster.base import virtual_time
from muster.base.errors import Transient
from muster.bus.memory import MemoryBus, MemorySubscription
from muster.domain.messages import (
    CONTROL_TOPIC,
    Desired,
    Fates,
    Heartbeat,
    Hello,
    Report,
    ReportEverything,
    Strangers,
    decode,
    encode,
    host_topic,
)
from muster.domain.reports import GuestState, ServerReport
from muster.domain.specs import (
    FixedIp,
    GroupMembers,
    NetworkSpec,
    PortSpec,
    Power,
    SecurityGroupSpec,
    ServerSpec,
    SubnetSpec,
)
from muster.host.agent import HostIdentity, HostParts
from muster.host.boot_settings import BootSettings
from muster.host.group import HostGroup
from muster.host.hypervisor.sim import SimHypervisor, SimSettings
from muster.host.plan import Action, View, decide
from muster.host.ports import Guest

HOST = "host-1"
NETWORK = NetworkSpec(
    id="net", generation=1, segment_id=7, subnets=(SubnetSpec(id="sub", ip_version=4, cidr="10.0.0.0/16"),)
)
GROUP = SecurityGroupSpec(id="group", generation=1)


class BadBus(MemoryBus):
    """Loses, doubles and delays messages (which also changes their order) until it is told to behave."""

    def __init__(self, rng: Random) -> None:
        super().__init__()
        self.rng = rng
        self.behaves = False

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        for message in messages:
            fate = 1.0 if self.behaves else self.rng.random()
            copies = 0 if fate < 0.2 else 2 if fate < 0.35 else 1
            for _ in range(copies):
                if not self.behaves and self.rng.random() < 0.4:
                    self._later(self.rng.uniform(0.0, 8.0), message)
                else:
                    await super().publish([message])

    def _later(self, delay_s: float, message: tuple[str, bytes]) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(delay_s, lambda: loop.create_task(MemoryBus.publish(self, [message])))


class Control:
    """A control plane in little: what should be, told and told again, and what it heard."""

    def __init__(self, bus: BadBus) -> None:
        self.bus = bus
        self.servers: dict[str, ServerSpec] = {}
        self.known: set[str] = set()
        self.changed_at: dict[str, int] = {}
        self.heard: dict[str, ServerReport] = {}
        self.halts: dict[str, list[int]] = defaultdict(list)  # generations whose order may stop a running guest
        self.seq = 0
        self.report_seq = 0
        self.made = 0
        self.is_member = False  # the host, of the network: it has servers on it, as far as is known here
        self.peers = {"192.0.2.2"}
        self.peers_generation = 1

    async def change(self, server_id: str, **values: object) -> None:
        spec = self.servers[server_id]
        if spec.power is Power.ABSENT:
            return
        spec = msgspec.structs.replace(spec, generation=spec.generation + 1, **values)
        self.servers[server_id] = spec
        if "ports" not in values and (spec.power is not Power.RUNNING or len(values) != 1 or "power" not in values):
            self.halts[server_id].append(spec.generation)
        await self.tell(server_id)

    async def create(self) -> None:
        self.made += 1
        id_ = f"server-{self.made}"
        self.known.add(id_)
        self.servers[id_] = ServerSpec(
            id=id_,
            generation=1,
            project_id="p",
            user_id="u",
            name=id_,
            hostname=id_,
            power=Power.RUNNING,
            ports=(self.port(f"{id_}-port"),),
        )
        is_first, self.is_member = not self.is_member, True
        self.peers_generation += is_first
        await self.tell(id_, with_peers=is_first)

    async def peer(self, number: int) -> None:
        """Another host joins the network, or leaves it. Only members are told."""
        address = f"192.0.2.{2 + number % 3}"
        joined, left = ((), (address,)) if address in self.peers else ((address,), ())
        self.peers ^= {address}
        self.peers_generation += 1
        if self.is_member:
            self.seq += 1
            step = GroupMembers(id="net", generation=self.peers_generation, joined=joined, left=left)
            await self.send(Desired(host_id=HOST, from_seq=self.seq - 1, to_seq=self.seq, peers=(step,)))

    def port(self, port_id: str) -> PortSpec:
        return PortSpec(
            id=port_id,
            network_id="net",
            mac_address=f"mac of {port_id}",
            fixed_ips=(FixedIp("sub", "10.0.0.2"),),
            security_group_ids=("group",),
        )

    async def tell(self, server_id: str, *, with_peers: bool = False) -> None:
        self.seq += 1
        self.changed_at[server_id] = self.seq
        told = self.told([server_id], with_peers=with_peers)
        await self.send(Desired(host_id=HOST, from_seq=self.seq - 1, to_seq=self.seq, **told))

    def told(self, ids: Sequence[str], *, with_peers: bool) -> dict[str, object]:
        servers = tuple(self.servers[id_] for id_ in ids)
        network = NETWORK
        if with_peers:
            peers = tuple(sorted(self.peers))
            network = msgspec.structs.replace(NETWORK, member_generation=self.peers_generation, members=peers)
        return {"servers": servers, "networks": (network,) if servers else (), "groups": (GROUP,)}

    async def send(self, message: Desired | ReportEverything | Fates) -> None:
        await self.bus.publish([(host_topic(HOST), encode(message))])

    async def listen(self, subscription: MemorySubscription) -> None:
        while True:
            for body in await subscription.next_batch():
                match decode(body):
                    case Hello() as hello:
                        everything = self.told(list(self.servers), with_peers=True)
                        await self.send(
                            Desired(
                                host_id=HOST,
                                from_seq=0,
                                to_seq=self.seq,
                                everything=True,
                                nonce=hello.nonce,
                                **everything,
                            )
                        )
                    case Heartbeat(beats=(beat,)):
                        await self.hear_beat(beat.desired_seq, beat.report_seq)
                    case Report() as report:
                        await self.hear(report)
                    case Strangers(server_ids=ids):
                        assert self.known.issuperset(ids)
                        ended = tuple(id_ for id_ in ids if id_ not in self.servers)
                        await self.send(Fates(host_id=HOST, ended=ended))

    async def hear_beat(self, desired_seq: int, report_seq: int) -> None:
        if desired_seq < self.seq:
            everything = self.told(list(self.servers), with_peers=True)
            await self.send(Desired(host_id=HOST, from_seq=0, to_seq=self.seq, everything=True, **everything))
        if report_seq > self.report_seq:
            await self.send(ReportEverything(host_id=HOST))

    async def hear(self, report: Report) -> None:
        if report.to_seq <= self.report_seq:
            return
        if report.everything or report.from_seq == self.report_seq:
            self.report_seq = report.to_seq
        for server in report.servers:
            await self.hear_of(server)

    async def hear_of(self, report: ServerReport) -> None:
        spec = self.servers.get(report.server_id)
        if spec is None or report.generation < spec.generation or report.state is GuestState.PENDING:
            return
        self.heard[spec.id] = report
        if spec.power is Power.ABSENT and report.state is GuestState.ABSENT:
            del self.servers[spec.id]
            self.is_member = bool(self.servers)
            self.peers_generation += not self.is_member
        elif spec.power is Power.RUNNING and report.state is GuestState.STOPPED:
            await self.change(spec.id, power=Power.STOPPED)


class World:
    """One host with its agent, a control plane and a bad bus between them."""

    def __init__(self, seed: int, boot_s: float, limit: int | None) -> None:
        self.rng = Random(seed)
        self.bus = BadBus(self.rng)
        self.control = Control(self.bus)
        self.journal = Journal()
        self.plumbing = MemoryPlumbing(self.journal)
        self.hypervisor = RecordingHypervisor(self.rng, SimSettings(boot_s=boot_s, keeps_card=0.3), lambda: 0.0)
        self.hypervisor.journal = self.journal
        self.hypervisor.before_start = self.check_start
        self.hypervisor.before_replug = self.check_replug
        self.plumbing.in_use = self.ports_in_use
        self.boots = BootSettings(limit=limit, boot_limit_s=20.0) if limit else None
        self.started: dict[str, int] = {}  # the generation that its guest runs for
        self.halted: dict[str, int] = {}  # the newest generation known anywhere when it halted by itself
        self.group: HostGroup | None = None
        self.wrong: list[str] = []
        self.journal.misfortune = self.misfortune

    def misfortune(self, step: str, ids: Sequence[str]) -> None:
        """Now and then something is away for a moment."""
        if not self.bus.behaves and step != "start" and self.rng.random() < 0.08:
            raise Transient(f"{step} is away", retry_after_s=self.rng.uniform(0.0, 5.0))

    def check_start(self, server: ServerSpec) -> None:
        if not self.plumbing.ready(server):
            self.wrong.append(f"{server.id} started before its network was ready")
        if self.plumbing.members.get("net", (-1,))[0] < 0:
            self.wrong.append(f"{server.id} started before the other hosts of its network were known")
        if server.power is not Power.RUNNING:
            self.wrong.append(f"{server.id} started though {server.power}")
        if server.generation <= self.halted.pop(server.id, -1):
            self.wrong.append(f"{server.id} halted by itself and was started unasked")
        self.started[server.id] = server.generation

    def check_replug(self, server: ServerSpec) -> None:
        if self.hypervisor.cards(server.id) is not None and not self.plumbing.ready(server):
            self.wrong.append(f"{server.id} got a network card before its network was ready")

    def ports_in_use(self) -> set[str]:
        return set().union(*filter(None, map(self.hypervisor.cards, self.control.known)))

    def check_stop(self, server_ids: Sequence[str]) -> None:
        for id_ in server_ids:
            since = self.started.pop(id_, None)
            if since is not None and not any(generation > since for generation in self.control.halts[id_]):
                self.wrong.append(f"{id_} stopped unasked")

    async def start_agent(self) -> None:
        loop = asyncio.get_running_loop()
        self.group = HostGroup(self.bus, rng=Random(self.rng.random()), clock=lambda: 1e9 + loop.time())
        identity = HostIdentity(host_id=HOST, hostname=HOST, hypervisor_type="sim", host_ip="192.0.2.1")
        parts = HostParts(
            identity=identity,
            hypervisor=self.hypervisor,
            plumbing=self.plumbing,
            leases=self.hypervisor.leases(),
            boots=self.boots,
            pressure=lambda: None,
        )
        await self.group.start([parts])

    async def crash_agent(self) -> None:
        """The agent is gone in the middle of whatever it does."""
        assert self.group is not None
        for agent in self.group.agents.values():
            for task in (*agent._tasks, *agent.reconciler._tasks):
                task.cancel()
            agent.reconciler._closed = agent._closed = True
        self.group._process.agenda.close()
        await self.group._process.courier.close()
        self.halted.clear()  # what a guest did by itself is not known to the next agent

    async def act(self, action: str, number: int) -> None:
        control = self.control
        if action in ("create", "peer"):
            return await (control.create() if action == "create" else control.peer(number))
        if action == "crash":
            await self.crash_agent()
            return await self.start_agent()
        if action == "reboot-host":
            await self.crash_agent()
            self.hypervisor.reboot_host()
            self.started.clear()
            return await self.start_agent()
        if not control.servers:
            return None
        id_ = sorted(control.servers)[number % len(control.servers)]
        spec = control.servers[id_]
        match action:
            case "delete":
                await control.change(id_, power=Power.ABSENT)
            case "stop":
                await control.change(id_, power=Power.STOPPED)
            case "start":
                await control.change(id_, power=Power.RUNNING)
            case "reboot":
                await control.change(
                    id_, power=Power.RUNNING, boot_nonce=spec.boot_nonce + 1, boot_hard=bool(number % 2)
                )
            case "rebuild":
                await control.change(id_, disk_nonce=spec.disk_nonce + 1)
            case "attach":
                await control.change(id_, ports=(*spec.ports, control.port(f"{id_}-{spec.generation}")))
            case "detach":
                await control.change(id_, ports=spec.ports[:1])
            case "halt":
                await self.halt(id_)
        return None

    async def halt(self, id_: str) -> None:
        """A user powers a server off from inside. Only a newer order than those that were carried out restarts it."""
        guest = (await SimHypervisor.observe(self.hypervisor)).get(id_)
        if self.group is None or guest is None or guest.state is not GuestState.RUNNING:
            return
        agent = self.group.agents[HOST]
        told = agent.reconciler.desired.servers.specs.get(id_)
        known = agent.reconciler._records.get(id_)
        self.started.pop(id_, None)
        settled = told is not None and known is not None and known.up and known.answered == told.generation
        if settled and known.job is None:
            self.halted[id_] = told.generation
        self.hypervisor.halt(id_)

    async def live(self, story: Sequence[tuple[str, int, float]]) -> None:
        subscription = await self.bus.subscribe(CONTROL_TOPIC)
        listening = asyncio.create_task(self.control.listen(subscription))
        stop, remove = self.hypervisor.stop, self.hypervisor.remove

        async def checked_stop(server_ids: Sequence[str], *, hard: bool) -> object:
            self.check_stop(server_ids)
            await asyncio.sleep(0.0 if hard else self.rng.uniform(0.0, 20.0))
            return await stop(server_ids, hard=hard)

        async def checked_remove(server_ids: Sequence[str]) -> object:
            self.check_stop(server_ids)
            return await remove(server_ids)

        self.hypervisor.stop, self.hypervisor.remove = checked_stop, checked_remove  # type: ignore[method-assign, assignment]
        await self.start_agent()
        for action, number, pause_s in story:
            await self.act(action, number)
            await asyncio.sleep(pause_s)
        self.bus.behaves = True
        await asyncio.sleep(400.0)
        self.check_end(await self.hypervisor.observe())
        assert self.group is not None
        await self.group.close()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

    def check_end(self, guests: dict[str, Guest]) -> None:
        assert not self.wrong, self.wrong
        assert not self.plumbing.torn, "a tap was removed under a guest"
        wanted = self.control.servers
        assert not [spec for spec in wanted.values() if spec.power is Power.ABSENT], "a removal was never reported"
        assert guests.keys() == wanted.keys()
        assert not self.hypervisor.kept
        for id_, spec in wanted.items():
            assert guests[id_].state.value == spec.power.value, id_
            assert guests[id_].disk_nonce == spec.disk_nonce
            assert spec.power is Power.STOPPED or guests[id_].boot_nonce == spec.boot_nonce
            if spec.power is Power.RUNNING:
                assert self.hypervisor.cards(id_) == {port.id for port in spec.ports}
            report = self.control.heard[id_]
            assert (report.state.value, report.generation) == (spec.power.value, spec.generation)
        ports = {port.id for spec in wanted.values() for port in spec.ports}
        assert self.plumbing.linked == self.plumbing.ruled == self.plumbing.served == ports
        assert self.plumbing.networks.keys() == ({"net"} if ports else set())
        assert self.group is not None
        known = self.group.agents[HOST].reconciler.desired.networks.specs
        assert known.keys() == ({"net"} if ports else set()), "a network without ports is still known"
        if ports:
            newest = (self.control.peers_generation, frozenset(self.control.peers))
            assert (known["net"].member_generation, frozenset(known["net"].members)) == newest
            running = any(spec.power is Power.RUNNING for spec in wanted.values())
            assert not running or self.plumbing.members["net"] == newest


ACTIONS = ("create",) * 4 + (
    "delete", "stop", "start", "reboot", "rebuild", "attach", "detach", "halt", "crash", "reboot-host", "peer",
)  # fmt: skip
STORIES = st.lists(
    st.tuples(st.sampled_from(ACTIONS), st.integers(0, 20), st.sampled_from((0.0, 0.01, 0.3, 3.0, 40.0))), max_size=25
)


# A removal is reported, which is lost; the server is forgotten after everything was asked for, and before it is said.
FORGOTTEN_MEANWHILE = [
    *[("create", 0, pause_s) for pause_s in (0.0, 3.0, 0.0, 0.0)],
    ("crash", 0, 0.0),
    *[("create", 0, pause_s) for pause_s in (3.0, 0.0, 3.0)],
    ("crash", 0, 0.0),
    ("create", 0, 0.01),
    ("delete", 0, 3.0),
    ("create", 0, 0.0),
]


@settings(max_examples=150, deadline=None)
@given(
    story=STORIES,
    seed=st.integers(0, 2**32),
    boot_s=st.sampled_from((0.0, 2.0)),
    limit=st.sampled_from((None, 1, 3)),
)
@example(story=FORGOTTEN_MEANWHILE, seed=638, boot_s=0.0, limit=None)
@example(story=[("create", 0, 40.0), ("delete", 0, 40.0)], seed=0, boot_s=0.0, limit=None)
def test_the_host_ends_as_desired(
    story: list[tuple[str, int, float]], seed: int, boot_s: float, limit: int | None
) -> None:
    async def live() -> None:
        await World(seed, boot_s, limit).live(story)

    virtual_time.run(live())


SPECS = st.builds(
    ServerSpec,
    id=st.just("server"),
    generation=st.integers(1, 3),
    project_id=st.just("p"),
    user_id=st.just("u"),
    name=st.just("n"),
    hostname=st.just("n"),
    power=st.sampled_from(Power),
    boot_nonce=st.integers(0, 2),
    disk_nonce=st.integers(0, 2),
)
GUESTS = st.builds(
    Guest,
    server_id=st.just("server"),
    state=st.sampled_from((GuestState.RUNNING, GuestState.STOPPED, GuestState.FAILED)),
    boot_nonce=st.integers(0, 2),
    disk_nonce=st.integers(0, 2),
)
VIEWS = st.builds(
    View,
    server_id=st.just("server"),
    spec=st.none() | SPECS,
    guest=st.none() | GUESTS,
    unknown=st.booleans(),
    plumbed=st.booleans(),
    plugged=st.booleans(),
    fitted=st.booleans(),
    halted_at=st.none() | st.integers(1, 3),
    failed_at=st.none() | st.integers(1, 3),
)


def carried_out(view: View, action: Action) -> View:
    """What is seen when an action has been done."""
    spec, guest = view.spec, view.guest
    if action in (Action.REMOVE, Action.KEEP) or spec is None:
        return msgspec.structs.replace(view, guest=None, plumbed=False, plugged=False)
    if action is Action.NOTHING:
        return view
    if action is Action.REPLUG:
        return msgspec.structs.replace(view, fitted=True)
    state = GuestState.RUNNING if spec.power is Power.RUNNING else GuestState.STOPPED
    plumbed = view.plumbed or action is not Action.STOP
    runs = guest is not None and guest.state is GuestState.RUNNING
    fitted = view.fitted or (action is Action.PLUMB and not runs)
    disk_nonce = spec.disk_nonce if guest is None or action is Action.REBUILD else guest.disk_nonce
    seen = Guest(server_id="server", state=state, boot_nonce=spec.boot_nonce, disk_nonce=disk_nonce)
    return msgspec.structs.replace(view, guest=seen, plumbed=plumbed, plugged=plumbed, fitted=fitted, halted_at=None)


@given(view=VIEWS)
def test_what_is_decided_leads_to_rest(view: View) -> None:
    for _ in range(4):
        view = carried_out(view, decide(view))
    assert decide(view) is Action.NOTHING


@given(view=VIEWS)
def test_decisions_respect_what_was_asked(view: View) -> None:
    action, spec, guest = decide(view), view.spec, view.guest
    absent = spec is None or spec.power is Power.ABSENT
    keeps = spec is None and guest is not None and view.unknown
    assert (action is Action.KEEP) == keeps
    assert (action is Action.REMOVE) == (absent and not keeps and (guest is not None or view.plugged))
    if action in (Action.START, Action.RESTART):
        assert spec is not None
        assert spec.power is Power.RUNNING
    runs = guest is not None and guest.state is GuestState.RUNNING
    if spec is not None and not absent and guest is not None and guest.disk_nonce >= spec.disk_nonce:
        assert action not in (Action.CREATE, Action.REBUILD), "a disk is never thrown away unasked"
        if runs and spec.power is Power.RUNNING and guest.boot_nonce >= spec.boot_nonce:
            assert action in (Action.NOTHING, Action.PLUMB, Action.REPLUG), "a running guest is left alone"
    if spec is not None and not absent and view.failed_at == spec.generation:
        assert action is Action.NOTHING
