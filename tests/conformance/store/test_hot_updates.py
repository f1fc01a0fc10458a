"""What becomes of each new server costs PostgreSQL no new entries in the indexes of some tables."""

import time
from pathlib import Path

import pytest
from sqlalchemy import text

from muster.store import instance_actions as action_store
from muster.store import server_ports as port_store
from muster.store.engine import Database

from .compute_cloud import add_hosts
from .workers import a_network, a_server, workers

# What the transaction itself has done so far.
_DONE = text("SELECT relname, n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE n_tup_upd > 0")


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_a_new_server_leaves_the_indexes_of_ports_and_actions_alone(database: Database, tmp_path: Path) -> None:
    """Its ports come up and its creation ends, which no index knows, and the new rows have room beside the old ones."""
    async with database.write() as connection:
        await add_hosts(connection, *(f"h{number}" for number in range(20)), now=time.time(), firewall=False)
    async with workers(database, tmp_path, count=1) as [worker]:
        network_id = await a_network(worker)
        made = [(await worker.creation.create([a_server("adm", network_id)]))[0].id for _ in range(100)]
    async with database.write() as connection:
        await port_store.set_status(connection, made, "ACTIVE")
        await action_store.finish(connection, made, time.time())
        done = {row.relname: (row.n_tup_upd, row.n_tup_hot_upd) for row in await connection.execute(_DONE)}
    assert done == {"ports": (100, 100), "instance_actions": (100, 100)}
