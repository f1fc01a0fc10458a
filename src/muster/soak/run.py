"""One soak: look up, prepare, let the users play, bring all to its end, clean up, tell.

Invariants: what a soak made it removes at the end, also when it is cancelled, and says what it could not remove. What
it has counted is in its folder at every moment, so that after `kill -9` another process goes on with it.
"""

import asyncio
import resource
import secrets
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from random import Random

import msgspec

from muster.base.clock import system_clock
from muster.base.errors import Conflict, MusterError, Transient
from muster.base.tasks import alongside, repeating, to_its_end
from muster.base.units import iso
from muster.client.api import Call
from muster.client.bodies import HypervisorList, decode
from muster.client.cloud import Cloud, Service, connect
from muster.client.http import HttpClient
from muster.client.listing import Listing
from muster.client.open_files import ensure_open_files
from muster.client.ping import Pinger, ensure_ping
from muster.client.resolve import Ingredients, Wanted, resolve
from muster.client.ssh import SshProbe, SshTarget, ensure_ssh
from muster.soak import resources
from muster.soak.clean import clean
from muster.soak.folder import Environment, Folder, Saved
from muster.soak.operations import Kit, Operations
from muster.soak.presence import Presence
from muster.soak.requests import TimedApi
from muster.soak.scenario import Scenario
from muster.soak.schedule import Schedule
from muster.soak.statistics import Event
from muster.soak.user import Stage, User, rest
from muster.soak.versions import Versions, read_versions
from muster.soak.watch import Watcher

SAVE_EVERY_S = 10.0
VERSIONS_EVERY_S = 300.0
SPARE_FILES = 200
AGAIN_S = 1.0


class Progress(msgspec.Struct, frozen=True):
    """What a soak is doing now, for those who look on."""

    doing: str
    saved: Saved
    active_s: float
    servers: int
    away_s: float | None


Shown = Callable[[Progress], None]


async def run_soak(wanted: Scenario, folder: Folder, shown: Shown | None = None, *, resume: bool = False) -> Saved:
    """Play until `wanted.duration_s` is over, or until cancelled: then clean up, and say what was counted so far.

    `resume`: go on with what the folder holds, by its own scenario; where it holds nothing, begin. `shown` is called
    once a second. Failures are in the result. Raises Invalid, NotFound, Unauthenticated, Forbidden or Transient when it
    cannot begin, Conflict when the folder holds an interrupted soak and `resume` is not said.
    """
    before = folder.load()
    if before is not None and not before.over and not resume:
        raise Conflict(
            f"{folder.path} holds an interrupted soak: go on with --resume, or remove what it made with "
            f"`muster soak clean --data {folder.path}`"
        )
    going_on = before if before is not None and not before.over else None
    wanted = going_on.scenario if going_on is not None else wanted
    said = read_versions(wanted.versions)
    _ensure_means(wanted)
    cloud = await connect(wanted.cloud, wanted.config_files, time.monotonic)
    try:
        async with HttpClient(cloud.tls) as http:
            if going_on is not None:
                going_on.interruptions.append(going_on.active_s)
            saved = going_on or _new(wanted, cloud)
            soak = _Soak(folder, saved, cloud, http, Versions(said))
            return await soak.whole(shown or _not_shown)
    finally:
        cloud.tokens.close()


def _first_of(broken: ExceptionGroup[Exception]) -> Exception:
    """Of users that fail at the same moment, and for the same reason, the first; a mistake of ours comes before."""
    told, mistakes = broken.split(MusterError)
    found: Exception | None = mistakes or told
    while isinstance(found, ExceptionGroup):
        found = found.exceptions[0]
    return found or broken


def _not_shown(_: Progress) -> None: ...


def _ensure_means(wanted: Scenario) -> None:
    """What this machine lacks is said before anything is made."""
    ensure_open_files(2 * wanted.users + SPARE_FILES)
    if wanted.ping:
        ensure_ping()
    if wanted.ssh:
        ensure_ssh()


def _new(wanted: Scenario, cloud: Cloud) -> Saved:
    environment = Environment(cloud.name, cloud.region, cloud.endpoints[Service.COMPUTE], iso(system_clock()))
    return Saved(run=secrets.token_hex(4), scenario=wanted, environment=environment)


class _Soak:
    """A run in one process: what it talks to, and what it counts."""

    def __init__(self, folder: Folder, saved: Saved, cloud: Cloud, http: HttpClient, versions: Versions) -> None:
        self._folder = folder
        self._saved = saved
        self._wanted = saved.scenario
        self._versions = versions
        self._began_s = time.monotonic() - saved.active_s
        self._cpu_before_s = saved.client_cpu_s
        self._api = TimedApi(http, cloud, self._requested)
        self._presence = Presence(self._now, self._note)
        self._watcher = Watcher(Listing(self._api, saved.prefix), self._presence, self._now)
        self._schedule = Schedule(self._wanted.rate_per_min, saved.active_s)
        self._missed_before = saved.missed_turns
        self._doing = "looking up image, flavor and network"

    def _now(self) -> float:
        return time.monotonic() - self._began_s

    def _note(self, event: Event) -> None:
        self._folder.note(self._saved, event)

    def _requested(self, what: str, took_s: float, ok: bool) -> None:
        self._saved.statistics.requested(what, took_s, ok=ok)

    async def whole(self, shown: Shown) -> Saved:
        self._save()
        try:
            async with alongside(repeating(lambda: self._look(shown), 1.0)):
                try:
                    await self._play()
                finally:
                    await to_its_end(self._clean_up())
        except ExceptionGroup as broken:
            raise _first_of(broken) from broken
        return self._saved

    # --- the users' time

    async def _play(self) -> None:
        wanted = self._wanted
        ingredients, prepared = await self._prepare()
        async with AsyncExitStack() as stack:
            pinger = await stack.enter_async_context(Pinger(self._now)) if wanted.ping else None
            target = SshTarget(wanted.user, wanted.ssh_port, prepared.key_file)
            kit = Kit(
                api=self._api,
                watcher=self._watcher,
                ingredients=ingredients,
                resources=prepared,
                availability_zone=wanted.availability_zone,
                pinger=pinger,
                ssh=SshProbe(target, self._now) if wanted.ssh else None,
            )
            await stack.enter_async_context(
                alongside(
                    self._watcher.run(),
                    repeating(self._learn_versions, VERSIONS_EVERY_S),
                    repeating(self._keep, SAVE_EVERY_S),
                )
            )
            await self._users(Operations(kit))

    async def _prepare(self) -> tuple[Ingredients, resources.Resources]:
        """Look up and make what is needed; a soak that is resumed waits for a cloud that is away."""
        wanted = self._wanted
        end_s = self._now() + (wanted.timeout_s if self._saved.interruptions else 0.0)
        while True:
            try:
                ingredients = await resolve(self._api, Wanted(wanted.image, wanted.flavor, wanted.network))
                return ingredients, await resources.prepare(self._api, wanted, self._saved.prefix, self._folder.path)
            except Transient:
                if self._now() >= end_s:
                    raise
                self._doing = "waiting for the cloud, which does not answer"
            await asyncio.sleep(AGAIN_S)

    async def _users(self, operations: Operations) -> None:
        wanted, stop = self._wanted, asyncio.Event()
        stage = Stage(
            wanted=wanted,
            prefix=self._saved.prefix,
            operations=operations,
            watcher=self._watcher,
            presence=self._presence,
            versions=self._versions,
            schedule=self._schedule,
            rng=Random(wanted.seed),  # noqa: S311 - no secret
            now=self._now,
            note=self._note,
            stop=stop,
        )
        self._doing = "users at work"
        async with asyncio.TaskGroup() as group:
            users = [group.create_task(User(stage).run()) for _ in range(wanted.users)]
            await rest(stop, wanted.duration_s - self._now())
            stop.set()
            self._doing = "ending: users finish what they are at"
            await asyncio.wait(users, timeout=2 * wanted.timeout_s)
            for user in users:
                user.cancel()

    # --- beside them

    async def _look(self, shown: Shown) -> None:
        """Once a second."""
        servers, now_s, since_s = len(self._watcher.servers), self._now(), self._presence.away_since_s
        self._saved.statistics.alive(servers, now_s)
        shown(Progress(self._doing, self._saved, now_s, servers, None if since_s is None else now_s - since_s))

    async def _learn_versions(self) -> None:
        """What the cloud tells of hosts; to others than administrators it tells nothing, which is no failure."""
        call = Call("GET os-hypervisors", "GET", Service.COMPUTE, "/os-hypervisors/detail", ok=(200, 403))
        try:
            response = await self._api.send(call)
            if response.status == 200:
                self._versions.learn(decode(response.body, HypervisorList).hypervisors)
        except MusterError:  # counted among the requests; next time
            pass

    async def _keep(self) -> None:
        self._save()

    def _save(self) -> None:
        saved, use = self._saved, resource.getrusage(resource.RUSAGE_SELF)
        saved.active_s = self._now()
        saved.missed_turns = self._missed_before + self._schedule.missed
        saved.client_cpu_s = self._cpu_before_s + time.process_time()
        saved.client_rss_mib = max(saved.client_rss_mib, use.ru_maxrss / 1024)
        for combination, hosts in self._versions.hosts().items():
            saved.hosts[combination] = sorted({*hosts, *saved.hosts.get(combination, [])})
        self._folder.save(saved)

    async def _clean_up(self) -> None:
        """What cannot be removed is told, and leaves the soak one that can be resumed or cleaned."""
        self._doing = "cleaning up"
        try:
            self._presence.close()
        finally:  # also when that cannot be written down
            self._saved.leftovers = await clean(self._api, self._saved.prefix, timeout_s=self._wanted.timeout_s)
        self._saved.over = not self._saved.leftovers
        self._save()
