"""A cloud forgets deleted servers when it was told to, without being asked."""

import asyncio
from pathlib import Path

from muster.cli.cloud import CloudSettings, running
from muster.store import deleted_servers
from tests.conformance.store.compute_cloud import add_server


async def test_a_cloud_forgets_what_was_deleted_long_enough_ago(tmp_path: Path) -> None:
    settings = CloudSettings(folder=tmp_path, sim_hosts=0, keep_deleted_s=60.0)
    async with running(settings, "secret") as cloud, cloud.database.write() as connection:
        await add_server(connection, "gone", deleted_at=1.0)
    async with running(settings, "secret") as cloud, asyncio.timeout(300):
        while await _due(cloud.database):
            await asyncio.sleep(0.05)


async def _due(database) -> list[str]:
    async with database.read() as connection:
        return await deleted_servers.read_due(connection, before=2.0, limit=10)
