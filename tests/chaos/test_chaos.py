"""2,000 creations at once, and something fails in the middle: nothing that was accepted is lost, doubled or leaked."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from muster.lab.cluster import Lab
from tests.audit import postgresql
from tests.chaos import failures
from tests.chaos.failures import Failure, Scene
from tests.chaos.judge import at_rest, complaints, eventually, leftovers
from tests.chaos.report import Report, Row
from tests.chaos.sizes import Sizes
from tests.chaos.user import Answers, User

pytestmark = [pytest.mark.chaos, pytest.mark.root, pytest.mark.timeout(1800)]

SCENARIOS: dict[str, Failure] = {
    "nothing": failures.nothing,
    "a worker killed (-9)": failures.a_worker_is_killed,
    "the etcd leader killed": failures.the_etcd_leader_is_killed,
    "PostgreSQL restarted": failures.postgresql_is_restarted,
    "RabbitMQ restarted": failures.rabbitmq_is_restarted,
    "a tenth of the agents killed": failures.agents_are_killed,
    "a lock's holder stopped for twice its lease": failures.a_holder_is_paused,
    "PostgreSQL killed": failures.postgresql_is_killed,
    "RabbitMQ killed": failures.rabbitmq_is_killed,
    "RabbitMQ away for longer than hosts may be silent": failures.rabbitmq_is_away_for_long,
}
_LOOK_S = 0.01
_MORE = 6


class Act:
    """One scenario."""

    def __init__(self, lab: Lab, user: User, size: Sizes, row: Row) -> None:
        self.lab, self.user, self.size, self.row = lab, user, size, row
        self.url = lab.site.database_url
        self.answers = Answers()

    async def create(self, failure: Failure) -> None:
        """All requests at once, and the failure when a tenth of them has been accepted. A failure that did not hit what
        it was meant for (few requests are over soon) gets more requests to strike.
        """
        for more in range(_MORE):
            self.row.notes.clear()
            await self._create(failure, f"{self.row.name}-{more}")
            if not any(failures.MISSED in note for note in self.row.notes):
                return

    async def _create(self, failure: Failure, name: str) -> None:
        names = [f"{name}-{index}" for index in range(self.size.servers)]
        already = len(self.answers.accepted)
        asking: asyncio.Task[None] | None = None
        scene = Scene(self.lab, self.size, lambda: asking is None or not asking.done(), self.row.notes)
        striking: asyncio.Task[None] | None = None
        if failure in failures.EARLY:
            striking = asyncio.create_task(_run(failure, scene))
            await scene.looking.wait()
        began = time.monotonic()
        asking = asyncio.create_task(self.user.create(names, self.answers))
        while striking is None and len(self.answers.accepted) - already < self.size.servers / 10 and not asking.done():
            await asyncio.sleep(_LOOK_S)
        accepted, seen = len(self.answers.accepted), await postgresql.progress(self.url)
        await (striking or failure(scene))
        active = seen["active"] if seen else "?"
        self.row.struck_at = f"{accepted} / {active} / {len(self.answers.accepted)}"
        await asking
        self.row.answered_s = time.monotonic() - began
        await at_rest(self.url)
        self.row.active_s = time.monotonic() - began

    async def delete(self) -> None:
        """All of them at once; whoever was not answered is asked again, as its user would."""
        began = time.monotonic()
        while servers := await self.user.servers():
            await self.user.delete([server["id"] for server in servers], Answers())
            await at_rest(self.url)
        self.row.deleted_s = time.monotonic() - began

    def count(self, there: set[str]) -> None:
        self.row.accepted = len(self.answers.accepted)
        self.row.refused = len(self.answers.refused)
        self.row.broken = len(self.answers.broken)
        self.row.made_of_broken = len(self.answers.broken & there)
        self.row.load = os.getloadavg()[0]


async def _run(failure: Failure, scene: Scene) -> None:
    try:
        await failure(scene)
    finally:
        scene.looking.set()  # whatever became of it, nobody waits for it


@pytest.fixture
def whole(lab: Lab) -> Lab:
    """The lab with all of its parts at work, whatever the scenario before has left."""
    for part in lab.site.plan.parts:
        lab.join(part.name)
        if lab.processes(part.name):
            lab.resume(part.name)
        else:
            lab.start(part.name)
        lab.await_ready(part)
    return lab


async def _play(act: Act, failure: Failure, scratch: Path) -> None:
    row = act.row
    await act.create(failure)
    act.count({server["name"] for server in await act.user.servers()})
    row.wrong += sorted(act.answers.strange) + await complaints(act.lab, act.user, act.answers, scratch)
    await act.delete()
    row.wrong += await leftovers(act.lab, scratch)
    row.done = True


@pytest.mark.parametrize("name", SCENARIOS)
async def test_nothing_is_lost_doubled_or_leaked(
    whole: Lab, user: User, size: Sizes, report: Report, name: str, tmp_path: Path
) -> None:
    row = Row(name)
    report.add(row)
    try:
        await _play(Act(whole, user, size, row), SCENARIOS[name], tmp_path)
    finally:
        report.ended()
        print("\n" + report.lines()[-1])  # noqa: T201 - for people who run it
    assert row.wrong == []
    if SCENARIOS[name] is failures.nothing:
        assert (row.accepted, row.refused, row.broken) == (size.servers, 0, 0)
    assert not any(failures.MISSED in note for note in row.notes)


async def test_hosts_are_all_up(whole: Lab, user: User, size: Sizes) -> None:
    """After all that, every host serves again."""

    async def all_up() -> bool:
        answer = await user.ask("GET", "/compute/v2.1/os-services?binary=nova-compute")
        return answer.status == 200 and sum(one["state"] == "up" for one in answer.body["services"]) == size.hosts

    await eventually("every host is up", all_up)
