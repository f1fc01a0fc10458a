"""A host that is not heard of: nothing new is sent there, what it has stays as it was last seen, and what was asked of
it meanwhile is done when it comes back."""

from pathlib import Path

from sqlalchemy import update

from muster.domain.messages import Desired, Report
from muster.domain.reports import GuestState, ServerReport
from muster.domain.servers import Verb
from muster.domain.specs import Power
from muster.store.hosts import hosts

from .loop import Ear, Loop, a_loop


async def silent_for_long(loop: Loop, host: Ear) -> None:
    async with loop.database.write() as connection:
        await connection.execute(update(hosts).where(hosts.c.id == host.id).values(last_seen_at=1.0))


async def says(loop: Loop, host: Ear, number: int, server_id: str, generation: int, state: GuestState) -> None:
    report = ServerReport(server_id=server_id, generation=generation, state=state)
    await loop.reports.take([Report(host_id=host.id, from_seq=number - 1, to_seq=number, servers=(report,))])


async def test_a_host_that_is_silent_and_comes_back(tmp_path: Path) -> None:
    async with a_loop(tmp_path) as loop:
        host, other = Ear(loop, "a", firewall=False), Ear(loop, "b", firewall=False)
        for ear in (host, other):
            await ear.say_hello()
        runs, doomed = await loop.create("a"), await loop.create("a")
        for number, server in enumerate((runs, doomed), start=1):
            await says(loop, host, number, server.id, server.generation, GuestState.RUNNING)
        await host.hear()
        await silent_for_long(loop, host)

        # Its servers are shown as they were, new ones go elsewhere or nowhere.
        assert {server.status for server in await loop.servers()} == {"ACTIVE"}
        refused = await loop.create("a")
        assert (refused.status, refused.host_id) == ("ERROR", None)
        assert (await loop.create()).host_id == other.id
        shown = await loop.compute.hypervisors.named("a")
        assert shown is not None
        assert not loop.compute.hypervisors.is_up(shown)

        # What is asked waits: the guest may be running, so neither its address nor its memory is given away.
        await loop.ask(runs.id, Verb.STOP)
        await loop.ask(doomed.id, Verb.DELETE)
        await host.hear()  # nobody is there
        tasks = {server.id: server.task_state for server in await loop.servers()}
        assert (tasks[runs.id], tasks[doomed.id]) == ("powering-off", "deleting")

        await host.say_hello()
        [everything] = [message for message in await host.hear() if isinstance(message, Desired)]
        assert everything.everything
        wanted = {spec.id: spec for spec in everything.servers}
        assert {id_: spec.power for id_, spec in wanted.items()} == {runs.id: Power.STOPPED, doomed.id: Power.ABSENT}
        await says(loop, host, 3, runs.id, wanted[runs.id].generation, GuestState.STOPPED)
        await says(loop, host, 4, doomed.id, wanted[doomed.id].generation, GuestState.ABSENT)
        after = {server.id: server.status for server in await loop.servers()}
        assert after[runs.id] == "SHUTOFF"
        assert doomed.id not in after
        assert (await loop.create("a")).host_id == host.id
