"""What is done to a lab in the middle of its work, and how a machine's own keepers (not a person) put it right."""

import asyncio
import base64
import contextlib
import json
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from muster.domain.servers import HOST_TIMEOUT_S
from muster.lab.cluster import Lab
from muster.lab.parts.etcd import asking, ctl
from muster.lab.plan import Kind, Part
from muster.lab.processes import inside
from tests.chaos.sizes import Sizes
from tests.commands import started

#: How long something that died stays dead: longer than its keeper (systemd) would take.
DEAD_S = 5.0
#: What a note says when a failure did not hit what it was meant for.
MISSED = "MISSED"
_LOCKS = "/muster/locks/subnet/"
_LONGER_S = 15.0
_LOOK_S = 0.1
_SOON_S = 0.5
_PROBES = 100


@dataclass
class Scene:
    """A lab at work. `is_working` says whether requests are still unanswered."""

    lab: Lab
    sizes: Sizes
    is_working: Callable[[], bool]
    notes: list[str] = field(default_factory=list)
    #: Set by a failure that looks before the first request is made (`EARLY`): it does.
    looking: asyncio.Event = field(default_factory=asyncio.Event)

    async def do(self, verb: Callable[..., object], *names: str) -> None:
        """A verb of the lab, while everything else goes on."""
        await asyncio.to_thread(verb, *names)


Failure = Callable[[Scene], Awaitable[None]]


async def nothing(_scene: Scene) -> None:
    """For comparison."""


async def a_worker_is_killed(scene: Scene) -> None:
    """Its supervisor starts it again."""
    await scene.do(scene.lab.kill, "worker-1")


async def the_etcd_leader_is_killed(scene: Scene) -> None:
    leader = await asyncio.to_thread(_leader, scene.lab)
    scene.notes.append(leader.name)
    await _killed_and_started(scene, leader.name)


async def postgresql_is_restarted(scene: Scene) -> None:
    await scene.do(scene.lab.restart, "postgresql")


async def postgresql_is_killed(scene: Scene) -> None:
    await _killed_and_started(scene, "postgresql")


async def rabbitmq_is_restarted(scene: Scene) -> None:
    await scene.do(scene.lab.restart, "rabbitmq")


async def rabbitmq_is_killed(scene: Scene) -> None:
    await _killed_and_started(scene, "rabbitmq")


async def rabbitmq_is_away_for_long(scene: Scene) -> None:
    """Longer than a host may be silent when the first request is made, and until all are answered."""
    await scene.do(scene.lab.kill, "rabbitmq")
    await asyncio.sleep(HOST_TIMEOUT_S + _LONGER_S)
    scene.looking.set()
    while scene.is_working():
        await asyncio.sleep(_LOOK_S)
    await scene.do(scene.lab.start, "rabbitmq")


async def agents_are_killed(scene: Scene) -> None:
    """Those of all hosts of one process: a tenth. Simulated guests end with them, as if the hosts' power had failed."""
    await _killed_and_started(scene, "sim-1")


async def a_holder_is_paused(scene: Scene) -> None:
    """A worker is stopped while it holds a subnet's lock, for twice the lease, and then goes on.

    Which one holds is found out from etcd alone: when somebody does, one worker is stopped; the lock's head stays the
    same for as long as its holder is stopped, and moves on when somebody else holds it.
    """
    workers = [worker for part in scene.lab.site.plan.of(Kind.CONTROL) for worker in part.workers]
    tries = 0
    async with _locks_taken(scene.lab) as taken:
        scene.looking.set()
        while scene.is_working():
            if not await _soon(taken):
                continue
            worker = workers[tries % len(workers)]
            tries += 1
            await scene.do(scene.lab.pause, worker)
            try:
                if await _head_stays(scene, scene.sizes.lease_s / 2):
                    scene.notes.append(f"{worker}, caught at the {tries}. try")
                    await asyncio.sleep(1.5 * scene.sizes.lease_s)
                    return
            finally:
                await scene.do(scene.lab.resume, worker)
    scene.notes.append(f"{MISSED}: no holder was caught in {tries} tries")


@asynccontextmanager
async def _locks_taken(lab: Lab) -> AsyncIterator[asyncio.Event]:
    """Set whenever somebody queues for a subnet's lock: they are held for milliseconds, less than a question takes."""
    member = lab.site.plan.of(Kind.ETCD)[0]
    watch = asking(lab.site, member, "watch", "--prefix", _LOCKS)
    command = inside(lab.site.namespace(member), watch.command)
    taken = asyncio.Event()

    async def hear(said: asyncio.StreamReader) -> None:
        while line := await said.readline():
            if line == b"PUT\n":
                taken.set()

    async with started(*command, stdout=PIPE, stderr=DEVNULL, env=dict(watch.environment)) as watching:
        assert watching.stdout is not None
        hearing = asyncio.create_task(hear(watching.stdout))
        try:
            await _until_heard(lab, member, taken)
            yield taken
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)


async def _until_heard(lab: Lab, member: Part, taken: asyncio.Event) -> None:
    """Make and remove a key until the watch tells of it."""
    probe = f"{_LOCKS}probe"
    for _ in range(_PROBES):
        await asyncio.to_thread(ctl, lab.site, member, "put", probe, "")
        await asyncio.to_thread(ctl, lab.site, member, "del", probe)
        if taken.is_set():
            return


async def _soon(event: asyncio.Event) -> bool:
    """Whether it happens, from now on, within a moment."""
    event.clear()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SOON_S):
            return await event.wait()
    return False


async def _head_stays(scene: Scene, seconds: float) -> bool:
    """Whether the first of those who queue for a subnet's lock is the same all the time."""
    first = await asyncio.to_thread(_heads, scene.lab)
    deadline = time.monotonic() + seconds
    while first and time.monotonic() < deadline:
        await asyncio.sleep(_LOOK_S)
        first &= await asyncio.to_thread(_heads, scene.lab)
    return bool(first)


#: Those that strike before the first request: afterwards workers have addresses on lease, and need no lock; and who is
#: to be away when requests are made must be gone before.
EARLY = frozenset({a_holder_is_paused, rabbitmq_is_away_for_long})


async def _killed_and_started(scene: Scene, name: str) -> None:
    await scene.do(scene.lab.kill, name)
    await asyncio.sleep(DEAD_S)
    await scene.do(scene.lab.start, name)


def _heads(lab: Lab) -> set[str]:
    """The key of each subnet's lock that has queued first."""
    member = lab.site.plan.of(Kind.ETCD)[0]
    found = json.loads(ctl(lab.site, member, "get", "--prefix", _LOCKS, "--keys-only", "--write-out=json"))
    heads: dict[str, tuple[int, str]] = {}
    for entry in found.get("kvs", []):
        key = base64.b64decode(entry["key"]).decode()
        subnet = key.removeprefix(_LOCKS).split("/")[0]
        place = (entry["create_revision"], key)
        heads[subnet] = min(place, heads.get(subnet, place))
    return {key for _, key in heads.values()}


def left_in_etcd(lab: Lab) -> list[str]:
    """Keys of subnets' locks, and leases that no key hangs on: at rest there are none. What one worker does for all is
    under locks too, which are held and waited for as long as there are workers.
    """
    member = lab.site.plan.of(Kind.ETCD)[0]
    leases = json.loads(ctl(lab.site, member, "lease", "list", "--write-out=json")).get("leases") or []
    found = json.loads(ctl(lab.site, member, "get", "--prefix", "/muster/", "--write-out=json")).get("kvs", [])
    used = {entry.get("lease", 0) for entry in found}
    keys = [base64.b64decode(entry["key"]).decode() for entry in found]
    stale = [f"lease {lease['id']:x}" for lease in leases if lease["id"] not in used]
    return stale + [key for key in keys if key.startswith(_LOCKS)]


def _leader(lab: Lab) -> Part:
    members = lab.site.plan.of(Kind.ETCD)
    for member in members:
        [status] = json.loads(ctl(lab.site, member, "endpoint", "status", "--write-out=json"))
        if status["Status"]["header"]["member_id"] == status["Status"]["leader"]:
            return member
    raise AssertionError("etcd has no leader")
