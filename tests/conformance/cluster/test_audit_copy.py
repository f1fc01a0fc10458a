"""The auditor reads a PostgreSQL as it reads a file: it finds nothing in a sound cloud, and each fault that is made."""

from pathlib import Path

import asyncpg

from tests.audit import ledger, postgresql
from tests.conformance.cluster.test_database_restarts import a_cloud, at_rest
from tests.conformance.conftest import Postgres
from tests.functional.compute.beds import bed_in

# What is done to the database, and a part of what must be said of it.
SABOTAGE = {
    "UPDATE hosts SET ram_used_mib = ram_used_mib + 1": "but its servers take",
    "UPDATE addresses SET ip_address = '10.0.0.250' WHERE port_id IS NOT NULL": "kept as the number of another",
    "UPDATE usages SET in_use = in_use + 1 WHERE resource = 'cores'": "of cores are counted",
    "UPDATE instance_actions SET finished_at = NULL": "never ended",
    "INSERT INTO outbox (host_id, seq, created_at) SELECT id, 999, 1.0 FROM hosts": "notes for hosts",
}


async def test_each_fault_is_found_in_postgresql(postgres: Postgres, tmp_path: Path) -> None:
    url = await postgres.create_database()
    async with a_cloud(url, tmp_path) as cloud:
        bed = await bed_in(cloud, "10.0.0.0/24")
        for _ in range(3):
            await bed.create()
        await bed.settled(3)
        await at_rest(cloud)
    progress = await postgresql.progress(url)
    assert progress == {"active": 3, "busy": 0, "there": 3, "notes": 0}
    assert ledger.audit(await postgresql.copied(url, tmp_path / "sound.db")) == []
    assert len(ledger.live_servers(tmp_path / "sound.db")) == len(ledger.given_addresses(tmp_path / "sound.db")) == 3
    connection = await asyncpg.connect(url)
    try:
        for statement, said in SABOTAGE.items():
            await connection.execute(statement)
            found = ledger.audit(await postgresql.copied(url, tmp_path / "copy.db"))
            assert any(said in complaint for complaint in found), (statement, found)
    finally:
        await connection.close()


async def test_a_database_that_is_away_is_told_as_such() -> None:
    assert await postgresql.progress("postgresql://postgres@127.0.0.1:1/nothing") is None
