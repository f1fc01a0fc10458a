"""What users begin with, in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import cast

from muster.base.virtual_time import run
from muster.client.bodies import Server
from muster.soak.operations import Operations
from muster.soak.presence import Presence
from muster.soak.scenario import Scenario
from muster.soak.schedule import Schedule
from muster.soak.statistics import Event, Life
from muster.soak.user import Stage, User
from muster.soak.versions import Versions
from muster.soak.watch import Watcher


class _Watcher:
    """The first listing comes after a second, and shows a server of before."""

    def __init__(self) -> None:
        self.has_listed = False
        self.servers: dict[str, Server] = {}
        self.strays = [Server("old", "muster-soak-1-old", "SHUTOFF")]

    def listed(self) -> None:
        self.has_listed = True

    def stray(self) -> Server | None:
        return self.strays.pop() if self.has_listed and self.strays else None

    async def until(self, server_id: str, status: str) -> Server:
        await asyncio.sleep(1.0)
        return Server(server_id, "muster-soak-1-new", status)

    def release(self, server_id: str) -> None:
        pass


class _Operations:
    def __init__(self) -> None:
        self.probes: dict[str, Callable[[Server], Awaitable[None]]] = {}

    async def ask_for(self, name: str) -> str:
        return name

    async def delete(self, server_id: str) -> None:
        await asyncio.sleep(1.0)


async def played(lasts_s: float) -> list[str]:
    loop, watcher, events = asyncio.get_running_loop(), _Watcher(), list[Event]()
    stop = asyncio.Event()
    stage = Stage(
        wanted=Scenario(users=1, activities=(0, 0)),
        prefix="muster-soak-1-",
        operations=cast(Operations, _Operations()),
        watcher=cast(Watcher, watcher),
        presence=Presence(loop.time, events.append),
        versions=Versions({}),
        schedule=Schedule(0.0, 0.0),
        rng=Random(1),
        now=loop.time,
        note=events.append,
        stop=stop,
    )
    loop.call_later(1.0, watcher.listed)
    loop.call_later(lasts_s, stop.set)
    await User(stage).run()
    return [event.what for event in events if isinstance(event, Life)]


def test_users_take_over_what_is_there_before_they_begin_anew() -> None:
    """Nothing had been listed yet when a soak was resumed: each user began a server beside the one that was left."""
    assert run(played(2.5))[:3] == ["taken over", "ended", "begun"]


def test_without_a_listing_nothing_is_begun() -> None:
    assert run(played(0.9)) == []
