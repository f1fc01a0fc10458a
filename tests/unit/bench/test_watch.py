"""Watching: what changed, who is gone, and how often is asked."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from muster.base import virtual_time
from muster.base.errors import Transient
from muster.bench.watch import Watcher
from muster.client.bodies import Link, Server, ServerList
from muster.client.listing import FULL_EVERY_S, Listing
from muster.client.pace import IDLE_LONGEST_S, LONGEST_S, SHORTEST_S, Pace


class Pages:
    """Stands for the API: answers from a list, notes what was asked."""

    def __init__(self, *pages: ServerList) -> None:
        self.pages = list(pages)
        self.asked: list[str] = []

    async def get(self, call: object, kind: object) -> ServerList:
        self.asked.append(call.path)  # type: ignore[attr-defined]
        page = self.pages.pop(0)
        if page.servers and page.servers[0].id == "broken":
            raise Transient("broken")
        return page


def page(*servers: Server, more: bool = False) -> ServerList:
    return ServerList(list(servers), [Link("http://x", "next")] if more else [])


def server(number: int, *, updated: str = "2026-11-21T09:00:00Z", status: str = "BUILD") -> Server:
    return Server(f"id{number}", f"bench-x-{number}", status, updated=updated)


def listing(*pages: ServerList) -> tuple[Listing, Pages]:
    api = Pages(*pages)
    return Listing(api, "bench-x-"), api  # type: ignore[arg-type]


async def test_changes_are_asked_for_from_the_newest_one_seen() -> None:
    one, api = listing(page(server(1), server(2, updated="2026-11-21T09:00:05Z")), page())
    await one.changed(0.0)
    await one.changed(1.0)
    assert api.asked == [
        "/servers/detail?name=bench-x-",
        "/servers/detail?name=bench-x-&changes-since=2026-11-21T09:00:03Z",
    ]


async def test_now_and_then_all_are_asked_for() -> None:
    one, api = listing(page(server(1)), page(server(1)), page(server(1)))
    for now_s in (0.0, FULL_EVERY_S - 0.1, FULL_EVERY_S):
        await one.changed(now_s)
    assert ["changes-since" in asked for asked in api.asked] == [False, True, False]


async def test_pages_follow_their_marker() -> None:
    one, api = listing(page(server(1), server(2), more=True), page(server(3)))
    assert await one.present() == {"id1", "id2", "id3"}
    assert api.asked == ["/servers?name=bench-x-", "/servers?name=bench-x-&marker=id2"]


async def test_servers_of_others_are_left_out() -> None:
    one, _ = listing(page(server(1), Server("other", "my-bench-x-1")))
    assert await one.present() == {"id1"}


async def test_a_listing_that_breaks_does_not_move_the_mark() -> None:
    late = server(1, updated="2026-11-21T10:00:00Z")
    one, api = listing(page(server(1)), page(late, more=True), page(Server("broken")), page())
    await one.changed(0.0)
    with pytest.raises(Transient):
        await one.changed(1.0)
    await one.changed(2.0)
    assert api.asked[-1].endswith("changes-since=2026-11-21T08:59:58Z")


class FakeListing:
    """What a listing shows, by hand."""

    def __init__(self) -> None:
        self.servers: dict[str, Server] = {}
        self.fails = 0
        self.polls = 0

    async def changed(self, now_s: float) -> list[Server]:
        self._poll()
        return list(self.servers.values())

    async def present(self) -> set[str]:
        self._poll()
        return set(self.servers)

    def _poll(self) -> None:
        self.polls += 1
        if self.fails:
            self.fails -= 1
            raise Transient("no")


@contextlib.asynccontextmanager
async def watching(one: FakeListing, now: Callable[[], float]) -> AsyncIterator[Watcher]:
    watcher = Watcher(one, now)  # type: ignore[arg-type]
    task = asyncio.create_task(watcher.run())
    try:
        yield watcher
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def loop_time() -> float:
    return asyncio.get_running_loop().time()


async def test_who_settled_before_anybody_waited_keeps_the_moment() -> None:
    one = FakeListing()
    one.servers = {"id1": server(1, status="ACTIVE"), "id2": server(2, status="ACTIVE")}
    async with watching(one, loop_time) as watcher:
        first = await watcher.settled("id1")
        await asyncio.sleep(0.05)
        assert (await watcher.settled("id2")).at_s == first.at_s


async def test_nobody_waits_nobody_polls() -> None:
    one = FakeListing()
    async with watching(one, loop_time):
        await asyncio.sleep(0.3)
    assert one.polls == 0


async def test_who_gives_up_is_forgotten() -> None:
    one = FakeListing()
    async with watching(one, loop_time) as watcher:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await watcher.settled("never")
        await asyncio.sleep(0.3)
        polls = one.polls
        await asyncio.sleep(0.3)
        assert one.polls == polls


async def test_a_failed_poll_is_counted_and_the_next_one_counts() -> None:
    one = FakeListing()
    one.fails = 2
    one.servers = {"id1": server(1, status="ERROR")}
    async with watching(one, loop_time) as watcher:
        assert (await watcher.settled("id1")).server.status == "ERROR"
    assert watcher.polling().aborted == 2


async def test_a_failed_poll_makes_nobody_gone() -> None:
    one = FakeListing()
    one.servers = {"id1": server(1)}
    one.fails = 1
    async with watching(one, loop_time) as watcher:
        leaving = asyncio.create_task(watcher.gone("id1"))
        await asyncio.sleep(0.3)
        assert not leaving.done()
        one.servers.clear()
        await leaving


async def test_a_census_waits_for_all() -> None:
    one = FakeListing()
    one.servers = {"id1": server(1)}
    async with watching(one, loop_time) as watcher:
        census = asyncio.create_task(watcher.census(2))
        await asyncio.sleep(0.15)
        assert not census.done()
        one.servers["id2"] = server(2)
        assert await census == {"id1": "bench-x-1", "id2": "bench-x-2"}


def test_the_pause_grows_while_nothing_happens_and_shrinks_at_once() -> None:
    pace = Pace()
    gaps = [pace.gap_s(0.001, changed=False) for _ in range(20)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == IDLE_LONGEST_S
    assert pace.gap_s(0.001, changed=True) == SHORTEST_S


def test_slow_polls_are_followed_by_long_pauses() -> None:
    assert Pace().gap_s(0.2, changed=True) == pytest.approx(0.6)
    assert Pace().gap_s(10.0, changed=True) == LONGEST_S


def test_what_is_waited_for_long_is_seen_one_percent_late_at_most() -> None:
    pace = Pace()
    assert pace.gap_s(0.001, changed=True, waited_s=5.0) == SHORTEST_S
    assert pace.gap_s(0.001, changed=True, waited_s=30.0) == pytest.approx(0.3)
    assert pace.gap_s(0.001, changed=True, waited_s=3600.0) == LONGEST_S


def test_a_long_wait_is_polled_for_less_often_until_something_new_is_waited_for() -> None:
    one = FakeListing()

    async def story() -> None:
        async with watching(one, loop_time) as watcher:
            first = asyncio.create_task(watcher.settled("id1"))
            polls = [one.polls]
            for second in range(1, 201):  # something changes every second
                await asyncio.sleep(1.0)
                one.servers[f"id{1000 + second}"] = server(1000 + second)
                polls.append(one.polls)
            assert polls[10] > 40
            assert polls[200] - polls[100] <= 101
            second_wait = asyncio.create_task(watcher.settled("id2"))
            await asyncio.sleep(1.0)
            before = one.polls
            one.servers["id2"] = server(2, status="ACTIVE")
            sighting = await second_wait
            assert sighting.at_s < 201.0 + 0.6
            assert one.polls > before
            first.cancel()

    virtual_time.run(story())
