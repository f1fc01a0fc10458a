"""kill -9 at random moments: what was answered is kept, the rest is whole or not there, nothing leaks or doubles."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from killable_cloud import KillableCloud, killable_cloud
from tests.audit import ledger
from tests.audit.http import UNREACHED

pytestmark = pytest.mark.system

SEED = 20_261_126
# A round for each: how many requests the user has under way at a time. All at once they share a few transactions, so a
# kill hits all or nothing; with fewer at a time it hits some of them. The second number stretches the round's times.
ROUNDS = ((500, 0.8), (100, 1.2), (25, 1.8), (500, 0.8), (50, 1.4))
# A kill counts if it came after the first request and before all was done; one that came too late is made up for.
KILLS_IN_CREATION_A_ROUND = 4
CREATIONS_A_ROUND_MAX = 12
KILLS_IN_DELETION = 4
SERVERS = 500
FLAVORS = ("1", "2")


class User:
    """Asks for servers and for their deletion, and remembers what he was answered. Each server has its own name."""

    def __init__(self, cloud: KillableCloud) -> None:
        self.cloud = cloud
        self.image_id = self.network_id = ""
        self.accepted: dict[str, str] = {}  # name to id
        self.lost: set[str] = set()  # names whose answer never came
        self.deleted: set[str] = set()  # ids
        self.lost_deletions: set[str] = set()

    async def prepare(self) -> None:
        body = {"name": "tiny", "disk_format": "raw", "container_format": "bare"}
        made = await self.cloud.ask("POST", "/image/v2/images", body)
        self.image_id = made.body["id"]
        await self.cloud.ask("PUT", f"/image/v2/images/{self.image_id}/file", b"\0" * 1024)
        networks = await self.cloud.ask("GET", "/network/v2.0/networks?name=default")
        self.network_id = networks.body["networks"][0]["id"]

    async def create(self, name: str) -> None:
        server = {
            "name": name,
            "imageRef": self.image_id,
            "flavorRef": FLAVORS[int(name[-1]) % 2],
            "networks": [{"uuid": self.network_id}],
            "metadata": {"asked as": name},
            "tags": ["one", "two"],
        }
        answer = await self.cloud.ask("POST", "/compute/v2.1/servers", {"server": server}, "2.52")
        if answer.status == 202:
            self.accepted[name] = answer.body["server"]["id"]
        elif answer.status is None:
            self.lost.add(name)
        else:
            assert answer is UNREACHED, answer

    async def delete(self, server_id: str) -> None:
        answer = await self.cloud.ask("DELETE", f"/compute/v2.1/servers/{server_id}")
        if answer.status in (204, 404):
            self.deleted.add(server_id)
        elif answer.status is None:
            self.lost_deletions.add(server_id)
        else:
            assert answer is UNREACHED, answer


async def _check(user: User) -> None:
    """The cloud, once at rest, is what its user was told."""
    await user.cloud.at_rest()
    assert ledger.audit(user.cloud.database) == []
    found = await user.cloud.servers()
    assert len({server["name"] for server in found}) == len(found), "a server is there twice"
    strange = [
        (server["name"], server["status"], server.get("fault")) for server in found if server["status"] != "ACTIVE"
    ]
    assert not strange
    there = {server["id"]: server["name"] for server in found}
    missing = set(user.accepted.values()) - there.keys() - user.deleted - user.lost_deletions
    assert not missing, "accepted, but not there"
    assert not there.keys() & user.deleted, "deleted, but there"
    assert {name for name in there.values() if name not in user.accepted} <= user.lost, "never asked for, but there"
    shown = {
        address["addr"]: server["id"]
        for server in found
        for addresses in server["addresses"].values()
        for address in addresses
    }
    assert shown == ledger.given_addresses(user.cloud.database)
    assert len(shown) == len(found), "a server without an address of its own"
    assert all(server["metadata"] == {"asked as": server["name"]} for server in found)
    user.lost &= set(there.values())  # the others were never made, and may be asked for again


class Times(NamedTuple):
    """What a round takes where nobody kills: the moments to kill at are drawn from it. In seconds."""

    start: float
    creation: float
    deletion: float

    def times(self, stretch: float) -> "Times":
        return Times(self.start, self.creation * stretch, self.deletion * stretch)


class Pace:
    """What a round's times are now, beside those that were measured: who else uses the machine comes and goes."""

    def __init__(self) -> None:
        self.factor = 1.0

    def was_early(self) -> None:
        self.factor = min(8.0, self.factor * 1.5)

    def was_late(self) -> None:
        self.factor = max(0.05, self.factor / 1.5)


class Round:
    """500 servers are made, and 500 more, then all are deleted; the cloud is killed in the middle of each of these, and
    again while it recovers and goes on.
    """

    def __init__(self, user: User, rng: Random, number: int, pace: Pace, at_once: int = SERVERS) -> None:
        self.user = user
        self.cloud = user.cloud
        self.kills_in_creation = self.kills_in_deletion = 0
        self._rng = rng
        self._number = number
        self._pace = pace
        self._wanted: set[str] = set()
        self._asked = 0
        self._at_once = asyncio.Semaphore(at_once)

    def wants_more(self, creation: int) -> None:
        """Another 500 are wanted besides those that are there."""
        self._wanted |= {f"r{self._number}-{creation}-{index}" for index in range(SERVERS)}
        self._asked = 0

    def wants_none(self) -> None:
        self._wanted = set()
        self._asked = 0

    async def create(self) -> None:
        """Ask for every server wanted that is not known to be there, and wait until all are."""
        await self._ask(self.user.create, sorted(self._wanted - self.user.accepted.keys() - self.user.lost))

    async def delete(self) -> None:
        """Ask for the deletion of every server there is, and wait until all are gone."""
        await self._ask(self.user.delete, ledger.live_servers(self.cloud.database))

    async def _ask(self, ask: Callable[[str], Awaitable[None]], whom: Iterable[str]) -> None:
        async def one(what: str) -> None:
            async with self._at_once:
                if self.cloud.alive:
                    self._asked += 1
                    await ask(what)

        await asyncio.gather(*(one(what) for what in whom))
        await self.cloud.at_rest()

    async def killed_twice(self, work: Callable[[], Awaitable[None]], start_s: float, work_s: float) -> int:
        """Do the work, and kill the cloud at a random moment of it, and again at one of its start and the work's rest.

        Returns how many of the two came after the first request and before all was done.
        """
        hits = await self._kill_during(work(), work_s)
        await self.cloud.spawn()

        async def start_and_work() -> None:
            if await self.cloud.ready():
                await work()

        hits += await self._kill_during(start_and_work(), start_s + work_s / 2)
        await self.cloud.start()
        return hits

    async def _kill_during(self, work: Coroutine[Any, Any, None], within_s: float) -> bool:
        working = asyncio.create_task(work)
        await asyncio.sleep(self._rng.uniform(0.0, within_s * self._pace.factor))
        begun = self._asked > 0
        self.cloud.kill()
        await self.cloud.gone()
        await working
        there = set(ledger.live_servers(self.cloud.database).values())
        self.user.lost &= there  # the others were never made, and are asked for again
        under_way = there != self._wanted or ledger.restless(self.cloud.database) != []
        if not begun:
            self._pace.was_early()
        elif not under_way:
            self._pace.was_late()
        return begun and under_way

    async def run(self, times: Times) -> None:
        creations = 0
        while self.kills_in_creation < KILLS_IN_CREATION_A_ROUND:
            assert creations < CREATIONS_A_ROUND_MAX, "the kills come too late, again and again"
            self.wants_more(creations)
            creations += 1
            self.kills_in_creation += await self.killed_twice(self.create, times.start, times.creation)
            await _check(self.user)
            await self.create()
            assert set(ledger.live_servers(self.cloud.database).values()) == self._wanted
        await _check(self.user)
        self.wants_none()
        deletion_s = times.deletion * creations / 2
        self.kills_in_deletion += await self.killed_twice(self.delete, times.start, deletion_s)
        await _check(self.user)
        await self.delete()
        await self.ended()

    async def measured(self) -> Times:
        """A round without kills."""
        moments = [time.monotonic()]
        self.cloud.kill()
        await self.cloud.gone()
        await self.cloud.start()
        moments.append(time.monotonic())
        self.wants_more(0)
        for step in (self.create, self.delete):
            await step()
            moments.append(time.monotonic())
        await self.ended()
        return Times(*(after - before for before, after in pairwise(moments)))

    async def ended(self) -> None:
        """Of the round nothing is left."""
        await _check(self.user)
        assert ledger.live_servers(self.cloud.database) == {}
        assert ledger.given_addresses(self.cloud.database) == {}


@pytest.mark.timeout(1800)
async def test_nothing_is_lost_doubled_or_leaked(tmp_path: Path) -> None:
    rng = Random(SEED)
    async with killable_cloud(tmp_path / "one", "--sim-hosts", "50") as cloud:
        user = User(cloud)
        await user.prepare()
        pace = Pace()
        times = await Round(user, rng, 0, pace).measured()
        number = kills_in_deletion = 0
        while number < len(ROUNDS) or kills_in_deletion < KILLS_IN_DELETION:
            assert number < 3 * len(ROUNDS), "the kills come too late, again and again"
            at_once, stretch = ROUNDS[number % len(ROUNDS)]
            number += 1
            one = Round(user, rng, number, pace, at_once)
            await one.run(times.times(stretch))
            kills_in_deletion += one.kills_in_deletion
