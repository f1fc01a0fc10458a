"""What users begin with, in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, cast

import pytest

from muster.base.errors import Invalid
from muster.base.virtual_time import run
from muster.client.bodies import Server
from muster.soak.operations import Operations
from muster.soak.presence import Presence
from muster.soak.scenario import Scenario
from muster.soak.schedule import Schedule
from muster.soak.statistics import Done, Event, Life
from muster.soak.user import Stage, User
from muster.soak.versions import NO_ANSWER, NOWHERE, Versions
from muster.soak.watch import Watcher


class _Watcher:
    """The first listing comes after a second, and shows a server of before."""

    def __init__(self) -> None:
        self.has_listed = False
        self.servers: dict[str, Server] = {}
        self.takes_s = 1.0
        self.strays = [Server("old", "muster-soak-1-old", "SHUTOFF")]

    def listed(self) -> None:
        self.has_listed = True

    def stray(self) -> Server | None:
        return self.strays.pop() if self.has_listed and self.strays else None

    async def until(self, server_id: str, status: str) -> Server:
        await asyncio.sleep(self.takes_s)
        return Server(server_id, "muster-soak-1-new", status)

    def release(self, server_id: str) -> None:
        pass


class _Operations:
    def __init__(self) -> None:
        self.probes: dict[str, Callable[[Server], Awaitable[None]]] = {}
        self.there: set[str] = set()
        self.most = 0

    async def ask_for(self, name: str) -> str:
        self.there.add(name)
        self.most = max(self.most, len(self.there))
        return name

    async def delete(self, server_id: str) -> None:
        await asyncio.sleep(1.0)
        self.there.discard(server_id)


async def played(
    lasts_s: float,
    takes_s: float = 1.0,
    away_s: tuple[float, float] | None = None,
    operations: _Operations | None = None,
    **changes: Any,
) -> list[Event]:
    """What is noted. `takes_s`: until a server is seen to be ACTIVE; `away_s`: when the cloud goes and comes back;
    `changes` of the scenario."""
    loop, watcher, events = asyncio.get_running_loop(), _Watcher(), list[Event]()
    stop, presence = asyncio.Event(), Presence(loop.time, events.append)
    watcher.takes_s = takes_s
    if away_s is not None:
        loop.call_later(away_s[0], presence.failed, away_s[0], "gone")
        loop.call_later(away_s[1], presence.answered)
    stage = Stage(
        wanted=Scenario(**{"users": 1, "activities": (0, 0), "timeout_s": 5.0, **changes}),
        prefix="muster-soak-1-",
        operations=cast(Operations, operations or _Operations()),
        watcher=cast(Watcher, watcher),
        presence=presence,
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
    return events


def lives(events: list[Event]) -> list[str]:
    return [event.what for event in events if isinstance(event, Life)]


def test_users_take_over_what_is_there_before_they_begin_anew() -> None:
    """Nothing had been listed yet when a soak was resumed: each user began a server beside the one that was left."""
    assert lives(run(played(2.5)))[:3] == ["taken over", "ended", "begun"]


def test_without_a_listing_nothing_is_begun() -> None:
    assert run(played(0.9)) == []


@pytest.mark.parametrize(("away_s", "expected"), [((4.0, 20.0), NO_ANSWER), ((3.0, 3.5), NOWHERE), (None, NOWHERE)])
def test_what_nobody_could_see_done_is_no_failure_of_a_host(away_s: tuple[float, float] | None, expected: str) -> None:
    """What timed out while the cloud was away was counted against the versions of the server's host."""
    events = run(played(2.5, takes_s=100.0, away_s=away_s))
    (create,) = [event for event in events if isinstance(event, Done) and event.operation == "create"]
    assert (create.fault, create.combination) == ("not done after 5 s", expected)


MOVING: dict[str, Any] = {"mix": {"move": 1}, "activities": (1, 1), "think_s": (0.0, 0.0)}


def test_who_moves_has_the_other_server_before_giving_up_the_first() -> None:
    operations = _Operations()
    events = run(played(4.0, operations=operations, **MOVING))
    done = [event.operation for event in events if isinstance(event, Done)]
    assert done[:5] == ["delete", "create", "create", "delete", "delete"], "the first is of before"
    assert (operations.most, operations.there) == (2, set())
    noted = lives(events)
    assert noted.count("begun") + noted.count("taken over") == noted.count("ended")


def test_who_cannot_move_gives_up_both() -> None:
    operations = _Operations()

    async def fails(server: Server) -> None:
        if len(operations.there) > 1:
            raise Invalid("no answer")

    operations.probes["ping"] = fails
    run(played(4.0, operations=operations, **MOVING))
    assert (operations.most, operations.there) == (2, set())
