"""A scripted user: creates a server, uses it, restarts it, changes what it is connected to, moves to another one,
deletes it; and again.

Invariants: an operation that ends is counted once. After a failure a user does nothing more with the server but delete
it; a server whose deletion failed is released, so that a user deletes it later. Who is told to stop finishes the
operation at hand and deletes.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from random import Random

import msgspec

from muster.base.errors import MusterError
from muster.client.bodies import Server
from muster.client.faults import anonymous
from muster.soak.operations import ACTIVE, Operations
from muster.soak.presence import Presence
from muster.soak.scenario import Scenario
from muster.soak.schedule import Schedule, activities
from muster.soak.statistics import Done, Event, Life
from muster.soak.versions import NO_ANSWER, Versions
from muster.soak.watch import Watcher

_LONGEST_FAULT = 300
_NO_ANSWER = frozenset({"client.connect", "client.connection", "client.timeout", "client.keystone"})


class Stage(msgspec.Struct, frozen=True):
    """What all users share. `now` is the soak's clock; `stop` is set when no life is to be begun any more."""

    wanted: Scenario
    prefix: str
    operations: Operations
    watcher: Watcher
    presence: Presence
    versions: Versions
    schedule: Schedule
    rng: Random
    now: Callable[[], float]
    note: Callable[[Event], None]
    stop: asyncio.Event


class User:
    """One life after the other, until told to stop."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def run(self) -> None:
        """Returns when told to stop."""
        stage = self._stage
        while not stage.stop.is_set():
            if stage.presence.away_since_s is not None:
                await self._rest(0.5)
            elif not stage.watcher.has_listed:  # an interrupted soak's servers come before new ones
                await self._rest(0.1)
            elif (stray := stage.watcher.stray()) is not None:
                stage.note(Life(stage.now(), "taken over"))
                await _OneLife(stage).go_on(stray)
            elif await self._turn():
                await _OneLife(stage).begin()

    async def _turn(self) -> bool:
        """Wait for a turn; whether it came before the end, with a cloud to use it on."""
        stage = self._stage
        await self._rest(stage.schedule.turn_s(stage.now()) - stage.now())
        if stage.presence.away_since_s is not None:
            stage.schedule.missed += 1
            return False
        return not stage.stop.is_set()

    async def _rest(self, pause_s: float) -> None:
        await rest(self._stage.stop, pause_s)


class _OneLife:
    """A server and its user, who may move to another one."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._operations = stage.operations
        self._id: str | None = None
        self._server: Server | None = None
        self._seen: Server | None = None

    async def begin(self) -> None:
        """Create a server, use it, delete it."""
        if await self._is_made():
            await self._use()
        await self._end()

    async def go_on(self, server: Server) -> None:
        """Take a server over that is there already."""
        self._id, self._server = server.id, server
        if server.status == ACTIVE and server.task_state is None and await self._probe():
            await self._use()
        await self._end()

    async def _is_made(self) -> bool:
        self._stage.note(Life(self._stage.now(), "begun"))
        return await self._do("create", self._create) and await self._probe()

    async def _create(self) -> None:
        self._id = await self._operations.ask_for(self._stage.prefix + secrets.token_hex(4))
        self._server = await self._stage.watcher.until(self._id, ACTIVE)

    async def _use(self) -> None:
        stage = self._stage
        for activity in activities(stage.wanted, stage.rng):
            await rest(stage.stop, stage.rng.uniform(*stage.wanted.think_s))
            if stage.stop.is_set():
                return
            await stage.presence.here()
            if not await _ACTIVITIES[activity](self):
                return

    async def _end(self) -> None:
        if self._id is None:
            return
        server_id = self._id
        await self._stage.presence.here()
        if await self._do("delete", lambda: self._operations.delete(server_id)):
            self._stage.note(Life(self._stage.now(), "ended"))
        self._stage.watcher.release(server_id)

    # --- activities: each says whether all of it went well

    async def read(self) -> bool:
        return await self._with("read", self._operations.read)

    async def metadata(self) -> bool:
        return await self._with("metadata", self._operations.metadata)

    async def security_group(self) -> bool:
        return await self._with("security group", self._operations.security_group)

    async def interface(self) -> bool:
        ports: list[str] = []

        async def attach(server: Server) -> None:
            ports.append(await self._operations.attach(server))

        async def detach(server: Server) -> None:
            await self._operations.detach(server, ports[0])

        return await self._with("attach", attach) and await self._with("detach", detach)

    async def reboot(self) -> bool:
        return (
            await self._with("reboot", lambda server: self._operations.reboot(server, "SOFT")) and await self._probe()
        )

    async def hard_reboot(self) -> bool:
        hard = await self._with("hard reboot", lambda server: self._operations.reboot(server, "HARD"))
        return hard and await self._probe()

    async def stop_start(self) -> bool:
        if not await self._with("stop", self._operations.stop):
            return False
        return await self._with("start", self._operations.start) and await self._probe()

    async def rebuild(self) -> bool:
        return await self._with("rebuild", self._operations.rebuild) and await self._probe()

    async def move(self) -> bool:
        """The load goes to another server, which is made and answers before this one is given up."""
        other = _OneLife(self._stage)
        if not await other._is_made():
            await other._end()
            return False
        await self._end()
        self._id, self._server, self._seen = other._id, other._server, other._seen
        return True

    async def _probe(self) -> bool:
        for name, probe in self._operations.probes.items():
            if not await self._with(name, probe):
                return False
        return True

    # --- one operation

    async def _with(self, operation: str, work: Callable[[Server], Awaitable[None]]) -> bool:
        server = self._server
        assert server is not None  # noqa: S101 - there is no activity without one
        return await self._do(operation, lambda: work(server))

    async def _do(self, operation: str, work: Callable[[], Awaitable[None]]) -> bool:
        """Do it within its time, and count it; whether it went well."""
        stage = self._stage
        began_s, fault = stage.now(), None
        self._where()
        is_answered = True
        try:
            async with asyncio.timeout(stage.wanted.timeout_s):
                await work()
        except TimeoutError:
            fault = f"not done after {stage.wanted.timeout_s:g} s"
            is_answered = stage.presence.away_since_s is None  # else nobody could see it done
        except MusterError as error:
            fault = anonymous(error.message)[:_LONGEST_FAULT]
            is_answered = error.code not in _NO_ANSWER
        now_s = stage.now()
        combination = stage.versions.combination(self._where()) if is_answered else NO_ANSWER
        stage.note(Done(now_s, operation, combination, now_s - began_s, fault))
        return fault is None

    def _where(self) -> Server | None:
        """The server as it was listed last, also when it is gone: one that never became ACTIVE may have a host."""
        self._seen = self._stage.watcher.servers.get(self._id or "") or self._seen or self._server
        return self._seen


async def rest(stop: asyncio.Event, pause_s: float) -> None:
    """Pause, not longer than until the end."""
    if pause_s <= 0:
        await asyncio.sleep(0)
        return
    try:
        async with asyncio.timeout(pause_s):
            await stop.wait()
    except TimeoutError:
        pass


_ACTIVITIES: dict[str, Callable[[_OneLife], Awaitable[bool]]] = {
    "read": _OneLife.read,
    "metadata": _OneLife.metadata,
    "security_group": _OneLife.security_group,
    "interface": _OneLife.interface,
    "reboot": _OneLife.reboot,
    "hard_reboot": _OneLife.hard_reboot,
    "stop_start": _OneLife.stop_start,
    "rebuild": _OneLife.rebuild,
    "move": _OneLife.move,
}
