"""What hosts say may be lost, doubled, malformed or come while the database is away: it costs time and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import select
from structlog.testing import capture_logs

from muster.base.errors import Away, Bug, Stale, Transient
from muster.bus.memory import MemoryBus
from muster.domain.messages import (
    CONTROL_TOPIC,
    Beat,
    Heartbeat,
    Hello,
    Message,
    Report,
    ReportEverything,
    decode,
    encode,
    host_topic,
)
from muster.domain.reports import HostCapacity
from muster.services.dispatcher import Dispatcher
from muster.services.host_reports import HostReports
from muster.store.engine import Database, Violation
from muster.store.hosts import hosts
from tests.databases import make_tables
from tests.functional.loop.loop import Kept

WAIT_S = 300.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Bed:
    """The reports' reader of one control plane, and the bus on which a test plays its hosts."""

    def __init__(self, database: Database, bus: MemoryBus) -> None:
        self.database = database
        self.bus = bus
        self.clock = Clock()
        self.reports = Strict(database, bus, self.clock, Dispatcher(database, bus, self.clock), None)  # type: ignore[arg-type]

    async def say(self, *messages: Message | bytes) -> None:
        bodies = [one if isinstance(one, bytes) else encode(one) for one in messages]
        await self.bus.publish([(CONTROL_TOPIC, body) for body in bodies])

    async def seq(self, host_id: str = "h") -> int | None:
        async with self.database.read() as connection:
            return (await connection.execute(select(hosts.c.report_seq).where(hosts.c.id == host_id))).scalar()

    async def asked(self, host_id: str = "h") -> int:
        """How often the host was asked for everything since the last call."""
        count = 0
        subscription = await self.bus.subscribe(host_topic(host_id))
        with suppress(TimeoutError):
            while True:
                async with asyncio.timeout(0.05):
                    for body in await subscription.next_batch():
                        count += isinstance(decode(body), ReportEverything)
        return count

    async def asked_at_last(self) -> int:
        """How often the host was asked, in as long as it takes, and in the moment after."""
        async with asyncio.timeout(WAIT_S):
            while not (first := await self.asked()):
                pass
        await asyncio.sleep(0.5)
        return first + await self.asked()

    async def until(self, holds: Any) -> None:
        async with asyncio.timeout(WAIT_S):
            while not await holds():
                await asyncio.sleep(0.01)


class Strict(HostReports):
    """Fails as it is told, once: like a database that is away, or like a mistake in the code."""

    fails: Exception | None = None
    spoiled_by = "nobody"
    mistake: Exception = KeyError("a mistake")

    async def take(self, messages: Sequence[Message]) -> None:
        if self.fails is not None:
            error, self.fails = self.fails, None
            raise error
        if any(getattr(message, "host_id", None) == self.spoiled_by for message in messages):
            raise self.mistake
        await super().take(messages)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Bed]:
    database = Database(f"sqlite:///{folder}/muster.db")
    await make_tables(database)
    bed = Bed(database, MemoryBus())
    task = asyncio.create_task(bed.reports.run())
    try:
        yield bed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await database.close()


def hello(host_id: str = "h", seq: int = 100) -> Hello:
    capacity = HostCapacity(vcpus=4, ram_mib=1_000, disk_gib=10)
    return Hello(
        host_id=host_id,
        hostname=host_id,
        hypervisor_type="sim",
        hypervisor_version=1,
        capacity=capacity,
        firewall=False,
        report_seq=seq,
    )


def report(from_seq: int, to_seq: int, host_id: str = "h", **more: Any) -> Report:
    return Report(host_id=host_id, from_seq=from_seq, to_seq=to_seq, **more)


async def test_reports_in_a_row_are_counted_and_nothing_is_asked(tmp_path: Path) -> None:
    async with running(tmp_path) as bed:
        await bed.say(hello(), report(100, 101), report(101, 102))
        await bed.until(lambda: _is(bed, 102))
        await bed.say(report(100, 101), hello())  # a doubled one, and a Hello of the same agent
        await bed.say(Heartbeat(beats=(Beat(host_id="h", desired_seq=0, report_seq=102),)))
        assert await bed.asked() == 0
        assert await bed.seq() == 102


async def test_after_a_gap_everything_is_asked_once_until_it_comes(tmp_path: Path) -> None:
    async with running(tmp_path) as bed:
        await bed.say(hello(), report(100, 101), report(102, 103))
        await bed.until(lambda: _is(bed, 101))
        await bed.say(report(103, 104), report(104, 105))
        assert await bed.asked_at_last() == 1
        assert await bed.seq() == 101
        bed.clock.now += 5  # the answer was lost as well
        await bed.say(report(105, 106))
        assert await bed.asked_at_last() == 1
        await bed.say(report(106, 107, everything=True), report(107, 108))
        await bed.until(lambda: _is(bed, 108))
        assert await bed.asked() == 0


async def test_a_report_that_another_worker_is_still_writing_is_waited_for(tmp_path: Path) -> None:
    async with running(tmp_path) as bed:
        dispatcher = Dispatcher(bed.database, bed.bus, bed.clock)
        other = HostReports(bed.database, bed.bus, bed.clock, dispatcher, None)  # type: ignore[arg-type]
        other._postponed = other._beats._postponed = later = Kept()
        await bed.say(hello())
        await bed.until(lambda: _is(bed, 100))
        await other.take([report(101, 102), report(102, 103)])
        await other.take([Heartbeat(beats=(Beat(host_id="h", desired_seq=0, report_seq=103),))])
        [again, look] = later.kept
        await again()
        assert await bed.seq() == 100  # an older state, written later, would be the last word
        await bed.say(report(100, 101))
        await bed.until(lambda: _is(bed, 101))
        await later.kept[-1]()  # waits longer than before
        assert await bed.seq() == 103
        await look()
        assert await bed.asked() == 0
        assert len(later.kept) == 3


async def test_a_new_agent_begins_anew(tmp_path: Path) -> None:
    async with running(tmp_path) as bed:
        await bed.say(hello(), report(100, 101), hello(seq=900), report(900, 901))
        await bed.until(lambda: _is(bed, 901))
        assert await bed.asked() == 0


async def test_a_lost_last_report_shows_in_the_heartbeat(tmp_path: Path) -> None:
    async with running(tmp_path) as bed:
        await bed.say(hello(), Heartbeat(beats=(Beat(host_id="h", desired_seq=0, report_seq=101),)))
        async with asyncio.timeout(WAIT_S):
            while not await bed.asked():
                await bed.say(Heartbeat(beats=(Beat(host_id="h", desired_seq=0, report_seq=101),)))


@pytest.mark.parametrize("body", [b"", b"\xc1nonsense", encode(hello())[:-5], b'{"type": "hello"}'])
async def test_what_is_malformed_spoils_nothing(tmp_path: Path, body: bytes) -> None:
    async with running(tmp_path) as bed:
        await bed.say(body, hello(), body, report(100, 101))
        await bed.until(lambda: _is(bed, 101))


@pytest.mark.parametrize("error", [Transient("away", retry_after_s=0.1), Away("broke off"), Stale("lost to another")])
async def test_what_came_while_the_database_was_away_is_written_in_the_end(tmp_path: Path, error: Exception) -> None:
    async with running(tmp_path) as bed:
        await bed.say(hello())
        await bed.until(lambda: _is(bed, 100))
        bed.reports.fails = error
        await bed.say(report(100, 101))
        await bed.until(lambda: _has(bed.reports.fails is None))
        await bed.say(report(101, 102))
        await bed.until(lambda: _is(bed, 102))
        assert await bed.asked() == 0


@pytest.mark.parametrize("mistake", [KeyError("a mistake"), Bug("another"), Violation("pk_hosts")])
async def test_a_message_that_meets_a_mistake_spoils_no_other(tmp_path: Path, mistake: Exception) -> None:
    async with running(tmp_path) as bed:
        bed.reports.spoiled_by, bed.reports.mistake = "bad", mistake
        with capture_logs() as lines:
            await bed.say(hello("a"), hello("bad"), hello("b"), report(100, 101, "a"))
            await bed.until(lambda: _is(bed, 101, "a"))
        [lost] = [line for line in lines if line["action"] == "reports.lost"]
        assert (lost["kind"], lost["hosts"]) == ("Hello", ["bad"])
        assert await bed.seq("b") == 100
        assert await bed.seq("bad") is None


async def test_of_two_hosts_with_one_name_the_log_says_what_to_do(tmp_path: Path) -> None:
    """A machine that was set up anew under its old name."""
    async with running(tmp_path) as bed:
        await bed.say(hello("old"))
        await bed.until(lambda: _is(bed, 100, "old"))
        with capture_logs() as lines:
            await bed.say(replace(hello("new"), hostname="old"), hello("b"))
            await bed.until(lambda: _is(bed, 100, "b"))
        [line] = [line for line in lines if line["log_level"] == "error"]
        assert (line["action"], line["hostname"], line["host"]) == ("reports.namesake", "old", "new")
        assert "compute service delete" in line["event"]


async def _is(bed: Bed, seq: int, host_id: str = "h") -> bool:
    return await bed.seq(host_id) == seq


async def _has(value: bool) -> bool:
    return value
