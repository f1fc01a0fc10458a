"""How far hosts are beside what their heartbeats say: only those are read of which something is to be done."""

from functools import partial

import pytest
from sqlalchemy import update

from muster.domain.messages import Beat
from muster.store import hosts as store
from muster.store.dialects import chunks
from muster.store.engine import Database
from muster.store.hosts import Progress, hosts

from .compute_cloud import add_hosts


def beat(host_id: str, desired_seq: int, report_seq: int) -> Beat:
    return Beat(host_id=host_id, desired_seq=desired_seq, report_seq=report_seq)


async def test_hosts_that_are_not_as_far_as_they_say_and_those_not_noted_for_long(database: Database) -> None:
    far = 3 << 40
    async with database.write() as connection:
        await add_hosts(connection, "same", "told", "behind", "reported", "mute", now=50.0)
        await connection.execute(update(hosts).values(desired_seq=far, desired_at=40.0, report_seq=far))
        await store.note_seen(connection, ["mute"], 10.0)
    said = [
        beat("same", far, far),
        beat("told", far + 1, far),
        beat("behind", far - 1, far),
        beat("reported", far, far + 1),
        beat("mute", far, far),
        beat("unknown", 0, 0),
    ]
    async with database.read() as connection:
        found = await store.read_differing(connection, said, seen_before=50.0)
        assert await store.read_differing(connection, said[:1], seen_before=50.0) == {}
        assert await store.read_differing(connection, [], seen_before=99.0) == {}
    assert found == {
        host_id: Progress(far, 40.0, far, 10.0 if host_id == "mute" else 50.0)
        for host_id in ("told", "behind", "reported", "mute")
    }


async def test_any_number_of_beats(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one statement takes."""
    monkeypatch.setattr(store, "chunks", partial(chunks, size=2))
    names = [f"h{number}" for number in range(5)]
    async with database.write() as connection:
        await add_hosts(connection, *names)
        await store.note_seen(connection, names, 7.0)
        found = await store.read_differing(connection, [beat(name, 0, 1) for name in names], seen_before=0.0)
    assert {host_id: progress.last_seen_at for host_id, progress in found.items()} == dict.fromkeys(names, 7.0)
