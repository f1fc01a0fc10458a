"""Who waits is told by a listing that began later; servers without an owner are offered; outages are counted."""

import asyncio
from typing import cast

import pytest

from muster.base.errors import Invalid, MusterError, NotFound, Transient
from muster.base.tasks import alongside
from muster.client.bodies import Server, ServerFault
from muster.client.listing import Listing
from muster.soak.presence import Presence
from muster.soak.statistics import Away
from muster.soak.watch import AGAIN_S, Watcher


class Cloud:
    """Lists what it is told to, each time it is let."""

    def __init__(self) -> None:
        self.servers: list[Server] = []
        self.error: MusterError | None = None
        self.now_s = 0.0
        self.outages: list[Away] = []
        self.presence = Presence(lambda: self.now_s, self.outages.append)
        self.watcher = Watcher(cast(Listing, self), self.presence, lambda: self.now_s)

    async def whole(self) -> list[Server]:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return self.servers

    async def told(self, wait: "asyncio.Future[Server] | asyncio.Task[Server]") -> Server:
        async with asyncio.timeout(300):
            return await wait


@pytest.mark.parametrize(
    ("server", "error"),
    [
        (Server("1", status="ERROR", fault=ServerFault("no disk")), Invalid),
        (Server("1", status="SHUTOFF"), Invalid),
        (Server("2", status="ACTIVE"), NotFound),
        (Server("1", status="DELETED"), NotFound),
    ],
)
async def test_a_server_that_settles_elsewhere_or_goes_is_a_failure(server: Server, error: type[Exception]) -> None:
    cloud = Cloud()
    cloud.servers = [server]
    async with alongside(cloud.watcher.run()):
        with pytest.raises(error):
            await cloud.told(asyncio.ensure_future(cloud.watcher.until("1", "ACTIVE")))


async def test_a_task_under_way_is_waited_for() -> None:
    cloud = Cloud()
    cloud.servers = [Server("1", status="ACTIVE", task_state="rebooting")]
    async with alongside(cloud.watcher.run()):
        wait = asyncio.ensure_future(cloud.watcher.until("1", "ACTIVE"))
        await asyncio.sleep(0.3)
        assert not wait.done()
        cloud.servers = [Server("1", status="ACTIVE")]
        assert (await cloud.told(wait)).status == "ACTIVE"


async def test_a_listing_that_began_before_tells_nobody() -> None:
    cloud = Cloud()
    cloud.servers = [Server("1", status="ACTIVE")]
    cloud.now_s = 5.0
    wait = asyncio.ensure_future(cloud.watcher.until("1", "ACTIVE"))
    await asyncio.sleep(0)
    cloud.watcher._see({"1": cloud.servers[0]}, 4.9)
    await asyncio.sleep(0.01)
    assert not wait.done()
    cloud.watcher._see({"1": cloud.servers[0]}, 5.0)
    assert (await cloud.told(wait)).id == "1"


def test_who_has_no_owner_is_offered_once_and_again_later() -> None:
    cloud, watcher = Cloud(), None
    watcher = cloud.watcher
    watcher.expect("asked-for")
    servers = {one: Server(one, name) for one, name in (("1", "lost"), ("2", "asked-for"), ("3", "mine"))}
    watcher.own("mine", "3")
    watcher._see(servers, 0.0)
    first = watcher.stray()
    assert first is not None
    assert first.id == "1"
    assert watcher.stray() is None
    watcher.release("1")  # it could not be deleted
    assert watcher.stray() is None
    cloud.now_s = AGAIN_S
    assert watcher.stray() is servers["1"]
    watcher.own("asked-for", None)  # its creation was never answered
    assert watcher.stray() is servers["2"]


async def test_an_outage_counts_once_and_holds_users_back() -> None:
    cloud = Cloud()
    cloud.error = Transient("no connection")
    async with alongside(cloud.watcher.run()), asyncio.timeout(300):
        while cloud.presence.away_since_s is None:
            await asyncio.sleep(0)
        assert cloud.presence.away_since_s == 0.0
        waiting = asyncio.ensure_future(cloud.presence.here())
        cloud.now_s, cloud.error = 90.0, None
        await waiting
    assert [(one.at_s, one.lasted_s, one.reason) for one in cloud.outages] == [(0.0, 90.0, "no connection")]
    cloud.presence.close()
    assert len(cloud.outages) == 1
