"""What a heartbeat tells the control plane: that a message to its host is lost, or only on its way."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import select, update
from structlog.testing import capture_logs

from muster.base.errors import Transient
from muster.bus.memory import MemoryBus
from muster.domain.messages import (
    Beat,
    Desired,
    Heartbeat,
    Report,
    ReportEverything,
    epoch_of,
    epoch_of_time,
    next_epoch,
)
from muster.services.restored import begin_anew
from muster.store import hosts as host_store
from muster.store.hosts import hosts

from .loop import Ear, Kept, Loop, a_loop


class Refusing(MemoryBus):
    """Is away for the next `refusals` publications."""

    refusals = 0

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        if self.refusals:
            self.refusals -= 1
            raise Transient("away", retry_after_s=0.1)
        await super().publish(messages)


@asynccontextmanager
async def a_loop_with_a_host(folder: Path) -> AsyncIterator[tuple[Loop, Ear]]:
    """The host has said hello."""
    async with a_loop(folder) as loop:
        host = Ear(loop, "a", firewall=False)
        await host.say_hello()
        yield loop, host


async def beat(loop: Loop, host: Ear, desired_seq: int, *, later_s: float) -> list[Desired]:
    """What the host hears when its heartbeat, sent `later_s` from now, says how far it is."""
    told = Beat(host_id=host.id, desired_seq=desired_seq, report_seq=0)
    await loop.reports.take([Heartbeat(beats=(told,), sent_at=loop.batch.clock() + later_s)])
    return [message for message in await host.read() if isinstance(message, Desired)]


async def seen_at(loop: Loop, host: Ear) -> float:
    """When it was last noted that the host is alive."""
    async with loop.database.read() as connection:
        return (await connection.execute(select(hosts.c.last_seen_at).where(hosts.c.id == host.id))).scalar_one()


async def test_every_second_beat_of_a_host_is_noted_whoever_reads_it(tmp_path: Path) -> None:
    async with a_loop(tmp_path) as loop:
        host, other = Ear(loop, "a", firewall=False), Ear(loop, "b", firewall=False)
        began = now = loop.batch.clock()
        readers = [loop.reports, loop.another_reader()]
        for reader in readers:
            reader._clock = reader._beats._clock = lambda: now
        await host.say_hello()
        await other.say_hello()
        noted = []
        for number in range(1, 8):
            now = began + 5.0 * number
            told = Beat(host_id=host.id, desired_seq=0, report_seq=0)
            await readers[number % 2].take([Heartbeat(beats=(told,), sent_at=now)])
            noted.append(await seen_at(loop, host) - began)
        assert noted == pytest.approx([0.0, 10.0, 10.0, 20.0, 20.0, 30.0, 30.0])
        assert await seen_at(loop, other) == pytest.approx(began)


async def test_a_beat_of_a_host_that_was_silent_is_noted_at_once_and_the_next_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_loop_with_a_host(tmp_path) as (loop, host):
        async with loop.database.write() as connection:
            await connection.execute(update(hosts).values(last_seen_at=1.0))
        await beat(loop, host, 0, later_s=0.0)
        known = await loop.compute.hypervisors.named("a")
        assert known is not None
        assert loop.compute.hypervisors.is_up(known)
        monkeypatch.setattr(loop.database, "write", None)
        await beat(loop, host, 0, later_s=5.0)


async def test_a_lost_message_is_noticed_at_the_first_beat_and_a_lost_answer_at_the_next(tmp_path: Path) -> None:
    async with a_loop_with_a_host(tmp_path) as (loop, host):
        await loop.create()
        [lost] = [message for message in await host.hear() if isinstance(message, Desired) and not message.everything]
        for _ in range(2):
            [answer] = await beat(loop, host, lost.from_seq, later_s=5.0)
            assert answer.everything
            assert (answer.to_seq, len(answer.servers)) == (lost.to_seq, 1)
        assert await beat(loop, host, lost.to_seq, later_s=5.0) == []


async def test_a_message_on_its_way_is_not_sent_again_until_the_second_beat_without_it(tmp_path: Path) -> None:
    async with a_loop_with_a_host(tmp_path) as (loop, host):
        await loop.create()
        await host.hear()
        assert await beat(loop, host, 0, later_s=-60.0) == []  # sent before the message was due, however slow we are
        # Also where the host's clock is far behind.
        assert len(await beat(loop, host, 0, later_s=-3_600.0)) == 1


async def test_what_waits_in_the_outbox_is_not_lost(tmp_path: Path) -> None:
    async with a_loop_with_a_host(tmp_path) as (loop, host):
        await host.hear()
        await loop.create()
        assert await beat(loop, host, 0, later_s=5.0) == []
        assert await beat(loop, host, 0, later_s=5.0) == []
        assert len(await host.hear()) == 1


async def test_a_host_that_knows_of_more_than_the_database_is_told_of_everything_in_a_new_epoch(tmp_path: Path) -> None:
    """The database was restored, or a standby that lagged took over; twice."""
    async with a_loop_with_a_host(tmp_path) as (loop, host):
        await loop.create()
        await host.hear()
        known = 1_000
        for _ in range(2):
            [told] = await beat(loop, host, known, later_s=0.0)
            assert told.everything
            assert len(told.servers) == 1
            assert told.to_seq == next_epoch(known)
            assert await beat(loop, host, told.to_seq, later_s=5.0) == []
            known = told.to_seq + 5


async def test_a_restored_database_that_gives_out_numbers_again_is_told_apart(tmp_path: Path) -> None:
    """A host knows of five changes more; as many come before it is heard. Its heartbeat shows nothing of that."""
    async with a_loop_with_a_host(tmp_path) as (loop, host):
        await loop.create()
        await host.hear()
        known = 6
        for _ in range(2):  # and once more, from the same backup
            async with loop.database.write() as connection:
                await connection.execute(update(hosts).values(desired_seq=known))
            assert await beat(loop, host, known, later_s=60.0) == []
            assert await begin_anew(loop.database, loop.batch.clock) == 1
            await loop.create()
            [*_, told] = [message for message in await host.hear() if isinstance(message, Desired)]
            if not told.everything:
                [told] = await beat(loop, host, known, later_s=60.0)
            assert told.everything
            assert epoch_of(told.to_seq) > epoch_of(known)
            assert told.to_seq > epoch_of_time(loop.batch.clock() - 600.0)
            known = told.to_seq
            assert await beat(loop, host, known, later_s=60.0) == []


async def test_reports_that_are_looked_for_again_because_the_bus_is_away_are_not_looked_for_twice(
    tmp_path: Path,
) -> None:
    bus = Refusing()
    async with a_loop(tmp_path, bus) as loop:
        slow, silent = Ear(loop, "slow", firewall=False), Ear(loop, "silent", firewall=False)
        for ear in (slow, silent):
            await ear.say_hello()
            await ear.hear()
        loop.reports._beats._postponed = later = Kept()
        beats = tuple(Beat(host_id=ear.id, desired_seq=0, report_seq=5) for ear in (slow, silent))
        await loop.reports.take([Heartbeat(beats=beats, sent_at=loop.batch.clock())])
        await loop.reports.take([Report(host_id=slow.id, from_seq=0, to_seq=1)])
        [look] = later.kept
        bus.refusals = 1
        with pytest.raises(Transient):
            await look()
        await look()
        assert len(later.kept) == 2  # the slow one's
        assert [type(message) for message in await silent.read()] == [ReportEverything]
        assert await slow.read() == []


async def test_after_a_mistake_hosts_are_looked_at_again_and_the_log_says_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_loop(tmp_path) as loop:
        silent = Ear(loop, "silent", firewall=False)
        await silent.say_hello()
        await silent.hear()
        loop.reports._beats._postponed = later = Kept()

        async def look() -> None:
            told = Beat(host_id=silent.id, desired_seq=0, report_seq=5)
            await loop.reports.take([Heartbeat(beats=(told,), sent_at=loop.batch.clock())])
            [work] = later.kept
            later.kept.clear()
            await work()

        async def mistake(*args: object) -> dict[str, int]:
            raise ValueError("a mistake")

        with capture_logs() as lines, monkeypatch.context() as patched:
            patched.setattr(host_store, "read_report_seqs", mistake)
            await look()
            await look()
        assert await silent.read() == []
        await look()
        assert [type(message) for message in await silent.read()] == [ReportEverything]
        assert [line["action"] for line in lines if line["log_level"] == "error"] == ["reports.unseen"]
