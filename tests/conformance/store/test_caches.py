"""SQLite's caches and its log follow the size of the file, of connections that live for weeks too."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from muster.store import sqlite
from muster.store.engine import Database
from muster.store.sqlite import READER, WRITER

MIB = 1 << 20


@pytest.mark.parametrize("caching", [WRITER, READER])
def test_a_cache_is_a_share_of_the_file_within_bounds(caching: sqlite.Caching) -> None:
    sizes = [caching.kib(file_bytes) for file_bytes in range(0, 4_096 * MIB, MIB)]
    assert sizes == sorted(sizes)
    assert sizes[0] == caching.least_kib
    assert sizes[-1] == caching.most_kib
    assert len(set(sizes)) <= 6, "a few steps: who looks again rarely finds another size"
    for file_mib, kib in enumerate(sizes):
        if caching.least_kib < kib < caching.most_kib:
            assert 1 <= kib * caching.share / (1_024 * file_mib) <= 2


def test_a_small_cloud_pays_for_no_large_one() -> None:
    """2,000 servers are 7 MiB; 100,000 are 260."""
    assert (WRITER.kib(7 * MIB), READER.kib(7 * MIB)) == (4_096, 1_024)
    assert (WRITER.kib(260 * MIB), READER.kib(260 * MIB)) == (65_536, 16_384)


async def _log(database: Database) -> int:
    """After how many pages the writer's connection writes the log back."""
    async with database.write() as connection:
        return (await connection.execute(text("PRAGMA wal_autocheckpoint"))).scalar_one()


async def _caches(database: Database) -> tuple[int, int]:
    """What the writer's and a reader's connection have, in KiB."""
    found = []
    for transaction in (database.write, database.read):
        async with transaction() as connection:
            found.append(-(await connection.execute(text("PRAGMA cache_size"))).scalar_one())
    return found[0], found[1]


async def test_connections_get_more_as_the_file_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(sqlite, "time", SimpleNamespace(monotonic=lambda: now))
    path = tmp_path / "grows.db"
    database = Database(f"sqlite:///{path}")
    try:
        assert await _caches(database) == (WRITER.least_kib, READER.least_kib)
        assert await _log(database) == 1_000
        size = path.stat().st_size
        os.truncate(path, 260 * MIB)  # takes no room
        assert await _caches(database) == (WRITER.least_kib, READER.least_kib), "looks at the file rarely"
        now += 60.0
        assert await _caches(database) == (WRITER.most_kib, READER.most_kib)
        assert await _log(database) == 4_096
        os.truncate(path, size)
        now += 60.0
        assert await _caches(database) == (WRITER.least_kib, READER.least_kib)
    finally:
        await database.close()


async def test_who_reads_alone_gets_the_connection_that_was_used_last(tmp_path: Path) -> None:
    """Its statements are prepared, and what they read is in its cache."""
    database = Database(f"sqlite:///{tmp_path / 'alone.db'}")
    try:
        async with database.read(), database.read(), database.read():
            """Three are open from here on."""
        used = set()
        for _ in range(6):
            async with database.read() as connection:
                used.add((await connection.get_raw_connection()).driver_connection)
        assert len(used) == 1
    finally:
        await database.close()
