"""What was asked of servers and is committed is never answered as a failure, whatever comes after; and one server that
cannot be ended keeps no other from its end."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from muster.base.errors import Transient
from muster.domain.messages import Beat, Desired, Heartbeat, Message, Report, ReportEverything
from muster.domain.reports import GuestState, ServerReport
from muster.domain.servers import Server, Verb
from muster.domain.specs import Power
from muster.services import server_orders
from muster.store import hosts as host_store

from .loop import Ear, Kept, a_loop, only_woken


async def test_an_end_that_fails_fails_nobodys_order_and_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_loop(tmp_path) as loop:
        host = Ear(loop, "a", firewall=False)
        await host.say_hello()
        runs, nowhere = await loop.create("a"), await loop.create("none")
        report = ServerReport(server_id=runs.id, generation=runs.generation, state=GuestState.RUNNING)
        await loop.reports.take([Report(host_id=host.id, from_seq=0, to_seq=1, servers=(report,))])
        orders = loop.compute.orders

        async def fails(_server_ids: Sequence[str]) -> None:
            raise Transient("the database is away")

        with monkeypatch.context() as patch:
            patch.setattr(orders, "_finish_once", fails)
            await asyncio.gather(loop.ask(nowhere.id, Verb.DELETE), loop.ask(runs.id, Verb.STOP))
        tasks = {server.id: server.task_state for server in await loop.servers()}
        assert tasks == {runs.id: "powering-off", nowhere.id: "deleting"}
        await orders.finish_left()
        assert [server.id for server in await loop.servers()] == [runs.id]


async def test_what_is_asked_is_published_as_soon_as_it_is_committed(tmp_path: Path) -> None:
    """Creations and orders wrote their notes past what wakes who publishes, and waited for its next look, up to 5 s."""
    async with a_loop(tmp_path) as loop:
        host = Ear(loop, "a", firewall=False)
        await host.say_hello()
        await host.hear()
        async with only_woken(loop):
            server = await loop.create("a")
            assert _told(await host.heard()) == {server.id: Power.RUNNING}
            report = ServerReport(server_id=server.id, generation=server.generation, state=GuestState.RUNNING)
            await loop.reports.take([Report(host_id=host.id, from_seq=0, to_seq=1, servers=(report,))])
            for verb, power in ((Verb.STOP, Power.STOPPED), (Verb.DELETE, Power.ABSENT)):
                await loop.ask(server.id, verb)
                assert _told(await host.heard()) == {server.id: power}, verb


def _told(messages: Sequence[Message]) -> dict[str, Power]:
    return {spec.id: spec.power for message in messages if isinstance(message, Desired) for spec in message.servers}


@contextmanager
def _stuck(server_id: str) -> Iterator[None]:
    """A mistake keeps this server from its end."""
    deleted = server_orders.deleted

    def deleted_but_one(server: Server, now: float) -> Server:
        if server.id == server_id:
            raise ValueError("a mistake in its data")
        return deleted(server, now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_orders, "deleted", deleted_but_one)
        yield


async def test_a_server_that_cannot_be_ended_keeps_no_other_from_its_end(tmp_path: Path) -> None:
    async with a_loop(tmp_path) as loop:
        nowhere = [await loop.create("none") for _ in range(5)]
        with _stuck(nowhere[2].id):
            await asyncio.gather(*(loop.ask(server.id, Verb.DELETE) for server in nowhere))
            assert [server.id for server in await loop.servers()] == [nowhere[2].id]
            await loop.compute.orders.finish_left()
        await loop.compute.orders.finish_left()
        assert await loop.servers() == []


async def test_reports_of_ends_one_of_which_cannot_be_written(tmp_path: Path) -> None:
    """The host of that one is asked again, and only that host; what else was said is taken in."""
    async with a_loop(tmp_path) as loop:
        hosts = [Ear(loop, name, firewall=False) for name in "ab"]
        for host in hosts:
            await host.say_hello()
        doomed = [await loop.create(name) for name in "aab"]
        reports = []
        for host, servers in ((hosts[0], doomed[:2]), (hosts[1], doomed[2:])):
            for server in servers:
                await loop.ask(server.id, Verb.DELETE)
            gone = [
                ServerReport(server_id=one.id, generation=one.generation + 1, state=GuestState.ABSENT)
                for one in servers
            ]
            reports.append(Report(host_id=host.id, from_seq=0, to_seq=1, servers=tuple(gone)))
        with _stuck(doomed[0].id):
            await loop.reports.take(reports)
            assert [server.id for server in await loop.servers()] == [doomed[0].id]
        async with loop.database.read() as connection:
            counted = await host_store.read_report_seqs(connection, [host.id for host in hosts])
        assert [counted[host.id] for host in hosts] == [0, 1]
        await loop.reports.take(reports[:1])
        assert await loop.servers() == []


async def test_the_host_of_a_server_that_cannot_be_ended_is_asked_ever_less_often(tmp_path: Path) -> None:
    """It answers each time, with everything, and is ahead again at each heartbeat; what it says else is taken in."""
    now = time.time()

    def clock() -> float:
        return now

    async with a_loop(tmp_path) as loop:
        host = Ear(loop, "a", firewall=False)
        await host.say_hello()
        doomed, other = await loop.create("a"), await loop.create("a")
        await loop.ask(doomed.id, Verb.DELETE)
        await host.hear()
        loop.reports._requests._clock = clock
        loop.reports._beats._postponed = later = Kept()
        gone = ServerReport(server_id=doomed.id, generation=doomed.generation + 1, state=GuestState.ABSENT)
        runs = ServerReport(server_id=other.id, generation=other.generation, state=GuestState.RUNNING)
        seq, asked = 0, 0

        async def report(*servers: ServerReport) -> None:
            nonlocal seq
            seq += 1
            told = Report(host_id=host.id, from_seq=seq - 1, to_seq=seq, everything=True, servers=servers)
            await loop.reports.take([told])

        async def beat() -> bool:
            nonlocal now
            now += 5.0
            told = Beat(host_id=host.id, desired_seq=0, report_seq=seq)
            await loop.reports.take([Heartbeat(beats=(told,), sent_at=now)])
            for look in later.kept:
                await look()
            later.kept.clear()
            return any(isinstance(message, ReportEverything) for message in await host.read())

        with _stuck(doomed.id):
            await report(gone)
            for _ in range(36):
                if await beat():
                    asked += 1
                    await report(gone, runs)
        assert asked == 8  # within three minutes, instead of 36 times
        assert {server.id: server.vm_state for server in await loop.servers()}[other.id] == "active"
        while not await beat():
            pass
        await report(gone, runs)
        assert [server.id for server in await loop.servers()] == [other.id]
        assert not await beat()
